// Approvals in the React hook useChat of AI SDK 6 and 7: node approvals.mjs VERSION AGENT_URL
import { existsSync } from 'node:fs';
import { report } from './cases.mjs';
import { MountedHook } from './mounted-hook.mjs';

const [version, agentUrl] = process.argv.slice(2);
const { useChat } = await import(`react-v${version}`);
const folder = new URL(`node_modules/react-v${version}/node_modules/ai/dist/`, import.meta.url);
const main = ['index.mjs', 'index.js'].find((name) => existsSync(new URL(name, folder)));
const ai = await import(new URL(main, folder));
const {
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses: isAnswered,
  lastAssistantMessageIsCompleteWithToolCalls: isDone,
} = ai;

const step = (name, rest) => `  - {name: ${name}, ${rest}}`;
const workflow = (...steps) =>
  `Run this workflow:\n\`\`\`yaml\nname: asking\nsteps:\n${steps.join('\n')}\n\`\`\``;
const ONE = workflow(
  step('ask', 'approval: {message: Ship it?}'),
  step('ship', 'depends: [ask], run: echo shipped, timeout: 20s'),
);
const TWO = workflow(
  step('left', 'approval: {message: Left?}'),
  step('right', 'approval: {message: Right?}'),
  step('end', 'depends: [left, right], run: echo both, timeout: 20s'),
);
const LATE = workflow(step('ask', 'approval: {message: Ship it?, timeout: 300ms}'));

// One chat that says it knows approval parts, and counts what it sends.
class ApprovalChat {
  #hook;
  #requests = [];
  #events = [];

  constructor({ headers = { 'X-Workflow-Approvals': 'parts' } } = {}) {
    const transport = new DefaultChatTransport({
      api: `${agentUrl}/api/chat`,
      headers,
      fetch: (url, init) => {
        this.#requests.push(JSON.parse(init.body));
        return fetch(url, init);
      },
    });
    const onData = ({ type, data }) =>
      type === 'data-workflow' && this.#events.push(structuredClone(data));
    // Both at once, as a page with tools of its own has them: neither may send again and again.
    const sendAutomaticallyWhen = (chat) => isAnswered(chat) || isDone(chat);
    this.#hook = new MountedHook(() => useChat({ transport, onData, sendAutomaticallyWhen }));
  }

  async say(text) {
    await this.#hook.until('mounted', () => true);
    await this.#hook.current.sendMessage({ text });
    return this.#settled();
  }

  async answer(...answers) {
    const before = this.#requests.length;
    for (const answer of answers) {
      await this.#hook.current.addToolApprovalResponse(answer);
    }
    await this.#hook.until('sent', () => this.#requests.length > before);
    return this.#settled();
  }

  async click(answer) {
    await this.#hook.current.addToolApprovalResponse(answer);
    return this.#settled();
  }

  async #settled() {
    const isSettled = ({ status }) => status === 'ready' || status === 'error';
    const chat = await this.#hook.until('settled', isSettled);
    const parts = chat.messages.at(-1).parts;
    const texts = parts.filter(({ type }) => type === 'text');
    return {
      status: chat.status,
      error: chat.error?.message ?? null,
      roles: chat.messages.map(({ role }) => role),
      text: texts.map(({ text }) => text).join(''),
      approvals: parts
        .filter((part) => part.toolName === 'workflow_approval')
        .map(({ state, input, output, errorText, approval }) => ({
          state, input, output, errorText, approval,
        })),
      events: this.#events,
      requests: this.#requests.length,
    };
  }
}

const ids = ({ approvals }) => approvals.map(({ approval }) => approval.id);

await report({
  approved: async () => {
    const chat = new ApprovalChat();
    const asked = await chat.say(ONE);
    const [id] = ids(asked);
    return { asked, answered: await chat.answer({ id, approved: true, reason: 'fine' }) };
  },
  rejected: async () => {
    const chat = new ApprovalChat();
    const [id] = ids(await chat.say(ONE));
    return chat.answer({ id, approved: false, reason: 'not now' });
  },
  parallel: async () => {
    const chat = new ApprovalChat();
    const asked = await chat.say(TWO);
    const [first, second] = ids(asked);
    const half = await chat.click({ id: first, approved: true });
    return { asked, half, answered: await chat.answer({ id: second, approved: true }) };
  },
  goesOn: async () => {
    const chat = new ApprovalChat();
    const [id] = ids(await chat.say(ONE));
    await chat.answer({ id, approved: true });
    return chat.say('list templates');
  },
  late: () => new ApprovalChat().say(LATE),
  withoutHeader: () => new ApprovalChat({ headers: {} }).say(ONE),
});
