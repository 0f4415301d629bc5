// The official `openai` client: node openai-client.mjs AGENT_URL SCRIPTED_URL
import OpenAI from 'openai';
import {
  ANSWER, BREAK, CALL_TOOL, MODEL, PLAN, RUN, RUN_WITH_FAILURE, WEATHER_TOOL, report, weather,
} from './cases.mjs';

const [agentUrl, scriptedUrl] = process.argv.slice(2);
const client = (url, headers = {}) =>
  new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: 'not-needed',
    maxRetries: 0,
    timeout: 20_000,
    defaultHeaders: headers,
  });
const agent = client(agentUrl);
const scripted = client(scriptedUrl);
const asked = (content, rest = {}) => ({
  model: MODEL,
  messages: [{ role: 'user', content }],
  ...rest,
});

// The loop of the product's guide, which also keeps every chunk.
async function streamed(from, content, rest = {}) {
  const response = await from.chat.completions.create(asked(content, { stream: true, ...rest }));
  const chunks = [];
  const contents = [];
  try {
    for await (const chunk of response) {
      chunks.push(chunk);
      const text = chunk.choices[0]?.delta?.content;
      if (text) contents.push(text);
    }
  } catch (error) {
    return { contents, text: contents.join(''), error: { name: error.constructor.name, message: error.message } };
  }
  return {
    contents,
    text: contents.join(''),
    events: chunks.flatMap((chunk) => chunk.workflow_event ?? []),
    finishReasons: chunks.flatMap((chunk) => chunk.choices[0]?.finish_reason ?? []),
    usages: chunks.flatMap((chunk) => chunk.usage ?? []),
    emptyChoices: chunks.filter((chunk) => chunk.choices.length === 0).length,
    ids: [...new Set(chunks.map((chunk) => chunk.id))],
  };
}

async function helped(from, content) {
  const stream = from.chat.completions.stream(asked(content));
  let text = '';
  stream.on('content', (delta) => {
    text += delta;
  });
  const completion = await stream.finalChatCompletion();
  const { message, finish_reason: finishReason } = completion.choices[0];
  return { text, content: message.content, finishReason, usage: completion.usage };
}

async function runTools() {
  const runner = scripted.chat.completions.runTools({
    ...asked(CALL_TOOL, { stream: true }),
    tools: [
      {
        type: 'function',
        function: { name: 'weather', ...WEATHER_TOOL, parse: JSON.parse, function: weather },
      },
    ],
  });
  const text = await runner.finalContent();
  return { text, roles: runner.messages.map((message) => message.role) };
}

async function refused(from, body) {
  try {
    await from.chat.completions.create(body);
    return null;
  } catch (error) {
    const { status, message, code, param, type, requestID } = error;
    const isAPIError = error instanceof OpenAI.APIError;
    return { kind: error.constructor.name, isAPIError, status, message, code, param, type, requestID };
  }
}

await report({
  plain: async () => {
    const { model, choices, usage } = await agent.chat.completions.create(asked(PLAN));
    return { model, content: choices[0].message.content, finishReason: choices[0].finish_reason, usage };
  },
  guideLoop: () => streamed(agent, RUN),
  failedStep: () => streamed(agent, RUN_WITH_FAILURE),
  inline: () => streamed(client(agentUrl, { 'X-Streaming-Format': 'vercel' }), RUN),
  usageAsked: () => streamed(scripted, ANSWER, { stream_options: { include_usage: true } }),
  detached: () => streamed(client(scriptedUrl, { 'X-Workflow-Detached': 'true' }), ANSWER),
  relayed: () => streamed(scripted, ANSWER, { model: 'openai/scripted' }),
  helper: () => helped(agent, RUN),
  runTools,
  brokenStream: () => streamed(scripted, BREAK),
  brokenHelper: () => helped(scripted, BREAK),
  badRole: () => refused(agent, { model: MODEL, messages: [{ role: 'king', content: 'x' }] }),
  noMessages: () => refused(agent, { model: MODEL, messages: [], stream: true }),
  badFormat: () =>
    refused(client(agentUrl, { 'X-Streaming-Format': 'morse' }), asked(PLAN, { stream: true })),
  models: async () => {
    const ids = [];
    for await (const model of agent.models.list()) ids.push(model.id);
    return ids;
  },
});
