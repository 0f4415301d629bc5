// The React hook useChat: node use-chat.mjs VERSION AGENT_URL SCRIPTED_URL
import {
  ANSWER, BREAK, CALL_TOOL, PLAN, PLAN_STEPS, RUN, RUN_IT, RUN_WITH_FAILURE, WEATHER_TOOL, report,
  weather,
} from './cases.mjs';
import { MountedHook } from './mounted-hook.mjs';

const [version, agentUrl, scriptedUrl] = process.argv.slice(2);
const { useChat } = await import(`react-v${version}`);

// A page on the server's own address: the hooks post to a path, never to a whole URL.
const nodeFetch = globalThis.fetch;
const requests = [];

globalThis.fetch = async (path, init) => {
  const base = new Headers(init?.headers).get('x-page') ?? agentUrl;
  const response = await nodeFetch(new URL(path, base), init);
  requests.push({
    path,
    status: response.status,
    contentType: response.headers.get('content-type'),
    dataStream: response.headers.get('x-vercel-ai-data-stream'),
    uiMessageStream: response.headers.get('x-vercel-ai-ui-message-stream'),
  });
  return response;
};

// One chat of 3.4 or 4, whose hook keeps the data of all answers beside the messages.
class DataStreamChat {
  #hook;

  constructor(page, { headers = {}, body } = {}) {
    const options = {
      headers: { ...headers, 'x-page': page },
      body,
      maxSteps: 3,
      keepLastMessageOnError: true,
      onToolCall: ({ toolCall }) => weather(toolCall.args),
    };
    this.#hook = new MountedHook(() => useChat(options));
  }

  async say(content) {
    const before = await this.#hook.until('mounted', () => true);
    const known = before.data?.length ?? 0;
    await before.append({ role: 'user', content });
    const after = await this.#hook.until('settled', (chat) => !chat.isLoading);
    const message = after.messages.at(-1);
    const data = (after.data ?? []).slice(known);
    return {
      text: message.content,
      events: data.filter((item) => 'seq' in item),
      agentTools: data.filter(({ type }) => type === 'agent_tool_returned').map(({ tool }) => tool),
      clientTools: (message.toolInvocations ?? []).map(({ toolName, args, state, result }) => ({
        name: toolName, input: args, isDone: state === 'result', output: result,
      })),
      roles: after.messages.map(({ role }) => role),
      status: after.status ?? (after.error ? 'error' : 'ready'),
      error: after.error?.message ?? null,
    };
  }
}

// One chat of 5 or later, whose messages have parts.
class UIMessageChat {
  #hook;
  #options;
  #events = [];

  constructor(page, { headers = {}, body } = {}) {
    this.#options = { headers: { ...headers, 'x-page': page }, body };
    // A part goes on changing, so it is copied.
    const onData = ({ type, data }) =>
      type === 'data-workflow' && this.#events.push(structuredClone(data));
    this.#hook = new MountedHook(() => useChat({ onData }));
  }

  async say(text) {
    this.#events = [];
    await this.#hook.until('mounted', () => true);
    let after = await this.#send({ text });
    const call = clientToolParts(after).find((part) => part.state === 'input-available');
    if (call) {
      const [tool, output] = [call.type.slice('tool-'.length), weather(call.input)];
      const tell = after.addToolOutput ?? after.addToolResult;
      await tell({ tool, toolCallId: call.toolCallId, output });
      after = await this.#send();
    }
    const { role, parts, metadata } = after.messages.at(-1);
    const texts = parts.filter((part) => part.type === 'text');
    return {
      text: role === 'assistant' ? texts.map((part) => part.text).join('') : '',
      events: this.#events,
      shownEvents: parts.filter(({ type }) => type === 'data-workflow').map(({ data }) => data),
      agentTools: parts
        .filter((part) => part.type === 'dynamic-tool' && part.state === 'output-available')
        .map((part) => part.toolName),
      clientTools: clientToolParts(after).map(({ type, input, state, output }) => ({
        name: type.slice('tool-'.length), input, isDone: state === 'output-available', output,
      })),
      roles: after.messages.map((message) => message.role),
      metadata,
      status: after.status,
      error: after.error?.message ?? null,
    };
  }

  async #send(message) {
    await this.#hook.current.sendMessage(message, this.#options);
    return this.#hook.until('settled', ({ status }) => status === 'ready' || status === 'error');
  }
}

function clientToolParts(chat) {
  return chat.messages.at(-1).parts.filter(({ type }) => type.startsWith('tool-'));
}

const Chat = Number.parseInt(version, 10) < 5 ? DataStreamChat : UIMessageChat;
const vercel = { 'X-Streaming-Format': 'vercel' };

await report({
  run: () => new Chat(agentUrl).say(RUN),
  runWithVercelHeader: () => new Chat(agentUrl, { headers: vercel }).say(RUN),
  failedStep: () => new Chat(agentUrl).say(RUN_WITH_FAILURE),
  progressText: () => new Chat(agentUrl, { headers: { 'X-Workflow-Progress': 'text' } }).say(RUN),
  twoTurns: async () => {
    const chat = new Chat(agentUrl);
    return { first: await chat.say(PLAN_STEPS), second: await chat.say(RUN_IT) };
  },
  answer: () => new Chat(scriptedUrl).say(ANSWER),
  detached: () =>
    new Chat(scriptedUrl, { headers: { 'X-Workflow-Detached': 'true' } }).say(ANSWER),
  clientTool: () =>
    new Chat(scriptedUrl, { body: { tools: { weather: WEATHER_TOOL } } }).say(CALL_TOOL),
  broken: () => new Chat(scriptedUrl).say(BREAK),
  refused: () => new Chat(agentUrl, { headers: { 'X-Streaming-Format': 'morse' } }).say(PLAN),
  requests: async () => requests,
});
