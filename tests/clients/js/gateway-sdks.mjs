// The official clients on every upstream format: node gateway-sdks.mjs GATEWAY_URL AGENT_URL
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { MODEL, RUN, report } from './cases.mjs';

const [gatewayUrl, agentUrl] = process.argv.slice(2);
const settings = { apiKey: 'not-needed', maxRetries: 0, timeout: 20_000 };
const openai = (url) => new OpenAI({ ...settings, baseURL: `${url}/v1` });
const anthropic = (url) => new Anthropic({ ...settings, baseURL: url });
const parameters = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};
const WIRES = ['chat', 'messages', 'responses'];

async function raised(ask) {
  try {
    await ask();
    return null;
  } catch (error) {
    const { status, code, type, param } = error;
    return { kind: error.constructor.name, status, code, type, param };
  }
}

async function response(model) {
  const client = openai(gatewayUrl);
  const tools = [{ type: 'function', name: 'look', parameters, strict: true }];
  const whole = await client.responses.create({ model, input: 'hello' });
  const stream = client.responses.stream({ model, input: 'hello' });
  const numbers = [];
  for await (const event of stream) numbers.push(event.sequence_number);
  const streamed = await stream.finalResponse();
  const first = await client.responses.create({ model, input: 'call it', tools });
  const call = first.output.find((item) => item.type === 'function_call');
  const second = await client.responses.create({
    model,
    tools,
    previous_response_id: first.id,
    input: [{ type: 'function_call_output', call_id: call.call_id, output: 'clear' }],
  });
  const shown = await client.responses.retrieve(second.id);
  await client.responses.delete(second.id);
  return {
    whole: whole.output_text,
    streamed: streamed.output_text,
    numbers,
    call: [call.name, call.arguments],
    second: second.output_text,
    shown: shown.output_text,
    gone: await raised(() => client.responses.retrieve(second.id)),
  };
}

async function message(model) {
  const client = anthropic(gatewayUrl);
  const asked = (content) => ({ model, max_tokens: 99, messages: [{ role: 'user', content }] });
  const tools = [{ name: 'look', input_schema: parameters }];
  const whole = await client.messages.create(asked('hello'));
  const streamed = await client.messages.stream(asked('hello')).finalMessage();
  const called = await client.messages.stream({ ...asked('call it'), tools }).finalMessage();
  const [use] = called.content;
  const { messages } = asked('call it');
  const result = { type: 'tool_result', tool_use_id: use.id, content: 'clear' };
  messages.push({ role: 'assistant', content: called.content }, { role: 'user', content: [result] });
  const second = await client.messages.create({ ...asked(''), tools, messages });
  const counted = await client.messages.countTokens({ model, messages: asked('hi').messages });
  return {
    whole: whole.content[0].text,
    streamed: streamed.content[0].text,
    usage: [streamed.usage.output_tokens, whole.usage.output_tokens],
    called: [called.stop_reason, use.name, use.input],
    second: second.content[0].text,
    counted: counted.input_tokens,
  };
}

const each = async (name, ask) =>
  Object.fromEntries(
    await Promise.all(WIRES.map(async (wire) => [wire, await ask(`${name}-by-${wire}`)])),
  );

await report({
  responses: () => each('gpt-5', response),
  messages: () => each('claude-sonnet-4', message),
  responseOfAgent: async () => {
    const events = [];
    const stream = await openai(agentUrl).responses.create({ model: MODEL, input: RUN, stream: true });
    for await (const event of stream) events.push(event);
    return {
      steps: events.filter(({ type }) => type === 'response.workflow.event').map((e) => e.workflow_event),
      last: events.at(-1).type,
    };
  },
  messageOfAgent: async () => {
    const asked = { model: MODEL, max_tokens: 999, messages: [{ role: 'user', content: RUN }] };
    const events = [];
    const client = anthropic(agentUrl);
    for await (const event of await client.messages.create({ ...asked, stream: true })) events.push(event);
    const whole = await client.messages.stream(asked).finalMessage();
    return {
      steps: events.filter(({ type }) => type === 'workflow_event').map((e) => e.workflow_event),
      blocks: whole.content.map(({ type }) => type),
      stopReason: whole.stop_reason,
    };
  },
  embeddings: async () => {
    const asked = { model: 'by-chat/gpt-real', input: ['hello', 'you'] };
    const { data } = await openai(gatewayUrl).embeddings.create(asked);
    return data.map(({ embedding }) => [...embedding]);
  },
  models: async () => {
    const ids = { openai: [], anthropic: [] };
    for await (const model of openai(gatewayUrl).models.list()) ids.openai.push(model.id);
    for await (const model of anthropic(gatewayUrl).models.list()) ids.anthropic.push(model.id);
    return ids;
  },
  refused: async () => {
    const body = { model: 'by-messages/claude-real', input: 'fail 429' };
    const messages = [{ role: 'user', content: 'fail 429' }];
    return {
      openai: await raised(() => openai(gatewayUrl).responses.create(body)),
      anthropic: await raised(() =>
        anthropic(gatewayUrl).messages.create({ model: 'by-chat/gpt-real', max_tokens: 9, messages }),
      ),
    };
  },
});
