// streamText and generateText: node provider.mjs MAJOR FACTORY AGENT_URL SCRIPTED_URL
// FACTORY is `chat`, of createOpenAI, or `compatible`, of createOpenAICompatible.
import { z } from 'zod';
import {
  ANSWER, BREAK, CALL_TOOL, MODEL, PLAN, RUN, RUN_WITH_FAILURE, describeError, report, weather,
} from './cases.mjs';

const [major, factory, agentUrl, scriptedUrl] = process.argv.slice(2);
const { generateText, streamText, tool, ...ai } = await import(`ai-v${major}`);
const makers = {
  async chat() {
    const { createOpenAI } = await import(`openai-v${major}`);
    return (settings) => createOpenAI({ ...settings, apiKey: 'not-needed' }).chat;
  },
  async compatible() {
    const { createOpenAICompatible } = await import(`compatible-v${major}`);
    return (settings) => createOpenAICompatible({ ...settings, name: 'agent-server' });
  },
};
const make = await makers[factory]();
const model = (url, { name = MODEL, headers = {} } = {}) =>
  make({ baseURL: `${url}/v1`, headers })(name);

// What the versions call the same thing.
const isOld = Number(major) < 5;
const city = z.object({ city: z.string() });
const weatherTool = tool({
  description: 'The weather in a city',
  ...(isOld ? { parameters: city } : { inputSchema: city }),
  execute: async (input) => weather(input),
});
const threeSteps = isOld ? { maxSteps: 3 } : { stopWhen: (ai.isStepCount ?? ai.stepCountIs)(3) };
const usageOf = (usage) => ({
  input: usage.promptTokens ?? usage.inputTokens,
  output: usage.completionTokens ?? usage.outputTokens,
});

async function streamed(from, content, rest = {}) {
  const messages = [{ role: 'user', content }];
  const quiet = { maxRetries: 0, onError: () => {} };
  const result = await streamText({ model: from, messages, ...quiet, ...rest });
  const found = { text: '', errors: [] };
  for await (const part of result.fullStream) {
    if (part.type === 'text-delta') found.text += part.textDelta ?? part.text;
    if (part.type === 'error') found.errors.push(describeError(part.error));
  }
  if (found.errors.length) return found;
  found.finalText = await result.text;
  found.finishReason = await result.finishReason;
  found.usage = usageOf(await result.usage);
  found.steps = (await result.steps).length;
  return found;
}

async function generated(from, content) {
  const messages = [{ role: 'user', content }];
  const { text, finishReason, usage } = await generateText({ model: from, messages, maxRetries: 0 });
  return { text, finishReason, usage: usageOf(usage) };
}

await report({
  run: () => streamed(model(agentUrl), RUN),
  failedStep: () => streamed(model(agentUrl), RUN_WITH_FAILURE),
  runWithVercelHeader: () =>
    streamed(model(agentUrl, { headers: { 'X-Streaming-Format': 'vercel' } }), RUN),
  planned: () => generated(model(agentUrl), PLAN),
  answer: () => streamed(model(scriptedUrl), ANSWER),
  // Its frames have ids.
  detached: () =>
    streamed(model(scriptedUrl, { headers: { 'X-Workflow-Detached': 'true' } }), ANSWER),
  generated: () => generated(model(scriptedUrl), ANSWER),
  relayed: () => streamed(model(scriptedUrl, { name: 'openai/scripted' }), ANSWER),
  tool: () =>
    streamed(model(scriptedUrl), CALL_TOOL, { tools: { weather: weatherTool }, ...threeSteps }),
  broken: () => streamed(model(scriptedUrl), BREAK),
  refused: () =>
    generated(model(agentUrl, { headers: { 'X-Streaming-Format': 'morse' } }), PLAN),
});
