import { createOpenAI } from '@ai-sdk/openai';
import { streamText } from 'ai';

const openai = createOpenAI({
  baseURL: 'http://localhost:8000/v1',
  apiKey: 'not-needed',
});

const result = await streamText({
  model: openai.chat('kubiya-workflow-agent'),
  messages: [
    {
      role: 'user',
      content: 'Create a workflow to deploy my app',
    },
  ],
});

// Handle the stream
for await (const textPart of result.textStream) {
  process.stdout.write(textPart);
}

// Get the final result
const finalText = await result.text;
