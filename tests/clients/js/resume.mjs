// A chat whose connection breaks, and the page that is loaded after it:
// node resume.mjs VERSION SERVER_URL MODEL_URL
import { report } from './cases.mjs';
import { MountedHook } from './mounted-hook.mjs';

const [version, serverUrl, modelUrl] = process.argv.slice(2);
const major = Number.parseInt(version, 10);
const { useChat } = await import(`react-v${version}`);
const DETACHED = { 'X-Workflow-Detached': 'true' };
const BODY = { model: 'openai/scripted' };

// Hooks ask a path. What each chat has asked, once it is answered.
const nodeFetch = globalThis.fetch;
const asked = {};
globalThis.fetch = async (path, init) => {
  const response = await nodeFetch(new URL(path, serverUrl), init);
  const id = init?.body ? JSON.parse(init.body).id : /chat(?:Id=|\/)([^/]+)/.exec(path)[1];
  (asked[id] ??= []).push([init?.method, response.status]);
  waiting.splice(0).forEach((tell) => tell());
  return response;
};
const waiting = [];
const answered = () => new Promise((tell) => waiting.push(tell));

// The model says the first half of its answer to a chat, and the other one when it is told to.
const goOn = (id) =>
  nodeFetch(`${modelUrl}/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ messages: [{ role: 'user', content: `go on ${id}` }] }),
  });
// The server has seen by then that a connection was closed before.
const noticed = () => nodeFetch(new URL('/health', serverUrl)).then((answer) => answer.text());
const question = (id) => `speak slowly ${id}`;

const textOf = (message) =>
  message?.role === 'assistant'
    ? (message.content ?? message.parts.filter((p) => p.type === 'text').map((p) => p.text).join(''))
    : '';
const half = (chat) => textOf(chat.messages.at(-1)) === 'Hello, ';
const settled = (chat) => chat.status === 'ready' || chat.status === 'error';
const found = (id, { messages, status, error }) => ({
  asked: asked[id],
  texts: messages.map((message) => textOf(message)),
  status,
  error: error?.message ?? null,
});

// A page of version 5 or later; one that is loaded again gets the messages that the first had kept.
class Page {
  constructor(id, messages) {
    const resume = messages !== undefined;
    this.id = id;
    this.hook = new MountedHook(() => useChat({ id, messages, resume }));
  }

  async leaveInTheMiddle(headers) {
    await this.hook.until('mounted', () => true);
    void this.hook.current.sendMessage({ text: question(this.id) }, { headers, body: BODY });
    const { stop, messages } = await this.hook.until('in the middle', half);
    await stop();
    await this.hook.until('stopped', settled);
    await noticed();
    return messages.filter(({ role }) => role === 'user');
  }

  // What the page shows once its question to the server is answered.
  async after(requests) {
    while ((asked[this.id]?.length ?? 0) < requests) await answered();
    // 5.0.0 stays where it is.
    return version === '5.0.0' ? this.hook.current : this.hook.until('settled', settled);
  }
}

const cases = {
  broken: async (id) => {
    const kept = await new Page(id).leaveInTheMiddle(DETACHED);
    const loaded = new Page(id, kept);
    await loaded.hook.until('replayed', half);
    await goOn(id);
    const whole = await loaded.hook.until('whole', settled);
    const again = new Page(id, whole.messages);
    return [found(id, whole), found(id, await again.after(3))];
  },
  unread: async (id) => {
    const kept = await new Page(id).leaveInTheMiddle(DETACHED);
    await goOn(id);
    const { hook } = new Page(id, kept);
    await hook.until('whole', (chat) => textOf(chat.messages.at(-1)) === 'Hello, world');
    return found(id, await hook.until('settled', settled));
  },
  inline: async (id) => {
    const kept = await new Page(id).leaveInTheMiddle({});
    return found(id, await new Page(id, kept).after(2));
  },
  transport: async (id) => {
    const { DefaultChatTransport } = await import(`ai-v${major}`);
    const transport = new DefaultChatTransport({ headers: DETACHED, body: BODY });
    const chatId = `a chat/${id}`;
    const parts = [{ type: 'text', text: question(id) }];
    const leaving = new AbortController();
    const posted = await transport.sendMessages({
      chatId,
      trigger: 'submit-message',
      messages: [{ id: '1', role: 'user', parts }],
      abortSignal: leaving.signal,
    });
    const reader = posted.getReader();
    await reader.read();
    leaving.abort();
    await noticed();
    await goOn(id);
    const types = [];
    for await (const chunk of await transport.reconnectToStream({ chatId })) types.push(chunk.type);
    return { types, nothing: await transport.reconnectToStream({ chatId: 'unknown' }) };
  },
};

// The hook of 4.3 keeps a chat's messages for all pages; a page that resumes has the user's alone.
const oldCases = {
  broken: async (id) => {
    const hook = new MountedHook(() => useChat({ id, headers: DETACHED, body: BODY }));
    await hook.until('mounted', () => true);
    void hook.current.append({ role: 'user', content: question(id) });
    const { stop, messages, setMessages } = await hook.until('in the middle', half);
    stop();
    await hook.until('stopped', settled);
    setMessages(messages.filter(({ role }) => role === 'user'));
    await hook.until('loaded', (chat) => chat.messages.length === 1);
    void hook.current.experimental_resume();
    await hook.until('replayed', half);
    await goOn(id);
    const whole = await hook.until('whole', settled);
    void hook.current.experimental_resume();
    while (asked[id].length < 3) await answered();
    return [found(id, whole), found(id, await hook.until('settled', settled))];
  },
};

// All versions talk to one server: their chats have names of their own.
const chosen = Object.entries(major < 5 ? oldCases : cases);
await report(
  Object.fromEntries(chosen.map(([name, run]) => [name, () => run(`${name}-${version}`)])),
);
