// The official `@anthropic-ai/sdk`: node anthropic-client.mjs URL_OF_AN_ANSWER URL_OF_A_FAILURE
import Anthropic from '@anthropic-ai/sdk';
import { report } from './cases.mjs';

const [answerUrl, failureUrl] = process.argv.slice(2);
const client = (baseURL) =>
  new Anthropic({ baseURL, apiKey: 'not-needed', maxRetries: 0, timeout: 20_000 });
const asked = { model: 'm', max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] };

async function raised(read) {
  try {
    await read();
    return null;
  } catch (error) {
    return { isAPIError: error instanceof Anthropic.APIError, type: error.type };
  }
}

async function raw(url) {
  const events = [];
  for await (const event of await client(url).messages.create({ ...asked, stream: true })) {
    events.push(event);
  }
  return events;
}

await report({
  raw: () => raw(answerUrl),
  helper: async () => {
    const stream = client(answerUrl).messages.stream(asked);
    let text = '';
    const blocks = [];
    stream.on('text', (delta) => {
      text += delta;
    });
    stream.on('contentBlock', (block) => blocks.push(block.type));
    return { message: await stream.finalMessage(), text, blocks };
  },
  rawFailure: () => raised(() => raw(failureUrl)),
  helperFailure: () => raised(() => client(failureUrl).messages.stream(asked).finalMessage()),
});
