// createOpenAI(...).responses with streamText and generateText: node responses.mjs MAJOR URL
import { z } from 'zod';

const [major, url] = process.argv.slice(2);
const { generateText, streamText, tool, ...ai } = await import(`ai-v${major}`);
const { createOpenAI } = await import(`openai-v${major}`);
const { responses } = createOpenAI({ baseURL: `${url}/v1`, apiKey: 'alice' });
const isOld = Number(major) < 5;
const city = z.object({ city: z.string() });
const look = tool({
  description: 'Looks',
  ...(isOld ? { parameters: city } : { inputSchema: city }),
  execute: async (input) => `seen ${input.city}`,
});
const threeSteps = isOld ? { maxSteps: 3 } : { stopWhen: (ai.isStepCount ?? ai.stepCountIs)(3) };

async function streamed(name, rest = {}) {
  const quiet = { maxRetries: 0, onError: () => {} };
  const result = await streamText({ model: responses(name), prompt: 'hi', ...quiet, ...rest });
  const found = { text: '', reasoning: '', errors: [] };
  for await (const part of result.fullStream) {
    const text = part.textDelta ?? part.text;
    if (part.type === 'text-delta') found.text += text;
    if (part.type === 'reasoning' || part.type === 'reasoning-delta') found.reasoning += text;
    if (part.type === 'error') found.errors.push(part.error.message ?? part.error.error.message);
  }
  if (found.errors.length) return found;
  return { ...found, finishReason: await result.finishReason, steps: (await result.steps).length };
}

const whole = await generateText({ model: responses('m'), prompt: 'hi', maxRetries: 0 });
console.log(JSON.stringify({
  plain: await streamed('m'),
  tools: await streamed('calls', { tools: { look }, ...threeSteps }),
  failure: await streamed('breaks'),
  workflow: await streamed('steps'),
  generated: { text: whole.text, finishReason: whole.finishReason },
}));
