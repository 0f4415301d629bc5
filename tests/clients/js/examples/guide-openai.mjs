import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: 'http://localhost:8000/v1',
  apiKey: 'not-needed',
});

// Create workflow
const response = await client.chat.completions.create({
  model: 'kubiya-workflow-agent',
  messages: [
    { role: 'user', content: 'Create a CI/CD pipeline' }
  ],
  stream: true,
});

// Handle streaming
for await (const chunk of response) {
  const content = chunk.choices[0]?.delta?.content;
  if (content) {
    process.stdout.write(content);
  }
}
