// The default model of @ai-sdk/openai, which asks the Responses API:
// node gateway-ai-sdk.mjs MAJOR GATEWAY_URL AGENT_URL
import { z } from 'zod';
import { MODEL, RUN, describeError, report } from './cases.mjs';

const [major, gatewayUrl, agentUrl] = process.argv.slice(2);
const { generateObject, generateText, streamText, tool, ...ai } = await import(`ai-v${major}`);
const { createOpenAI } = await import(`openai-v${major}`);
const model = (url, name) => createOpenAI({ baseURL: `${url}/v1`, apiKey: 'not-needed' })(name);
const look = tool({
  description: 'Looks',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `clear in ${city}`,
});
const stopWhen = (ai.isStepCount ?? ai.stepCountIs)(3);

async function streamed(from, prompt, rest = {}) {
  const quiet = { maxRetries: 0, onError: () => {} };
  const result = streamText({ model: from, prompt, ...quiet, ...rest });
  const found = { text: '', errors: [] };
  for await (const part of result.fullStream) {
    if (part.type === 'text-delta') found.text += part.text;
    if (part.type === 'error') found.errors.push(describeError(part.error));
  }
  if (found.errors.length) return found;
  const { inputTokens, outputTokens } = await result.totalUsage;
  const steps = (await result.steps).length;
  return { ...found, finishReason: await result.finishReason, steps, inputTokens, outputTokens };
}

async function all(name) {
  const from = model(gatewayUrl, name);
  const { text, finishReason } = await generateText({ model: from, prompt: 'hello', maxRetries: 0 });
  const schema = z.object({ city: z.string(), degrees: z.number() });
  const { object } = await generateObject({ model: from, prompt: 'weather', schema, maxRetries: 0 });
  return {
    generated: { text, finishReason },
    object,
    streamed: await streamed(from, 'hello'),
    tools: await streamed(from, 'call it', { tools: { look }, stopWhen }),
    cut: await streamed(from, 'hello', { maxOutputTokens: 2 }),
    refused: await streamed(from, 'fail 400'),
  };
}

await report({
  chat: () => all('gpt-5-by-chat'),
  messages: () => all('gpt-5-by-messages'),
  responses: () => all('gpt-5-by-responses'),
  fallback: () => all('gpt-5-by-fallback'),
  agent: () => streamed(model(agentUrl, MODEL), RUN),
});
