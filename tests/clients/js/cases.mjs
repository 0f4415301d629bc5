// Runs the cases of a script side by side and prints one line: {"case": what it found, ...}.
// A case that throws is found as {"thrown": {...}}; the tests say which may.

export function describeError(error) {
  // Some versions hand on the message alone.
  if (typeof error === 'string') return { message: error };
  const { name, message, status, statusCode, code, param, type } = error;
  return { name, message, status, statusCode, code, param, type };
}

async function outcome(run) {
  try {
    return await run();
  } catch (error) {
    return { thrown: describeError(error) };
  }
}

export async function report(cases) {
  const entries = Object.entries(cases).map(async ([name, run]) => [name, await outcome(run)]);
  const found = Object.fromEntries(await Promise.all(entries));
  process.stdout.write(`${JSON.stringify(found)}\n`, () => process.exit(0));
}

// What people ask in the cases. The offline planner runs the first two and only shows the others,
// until it is told to run what it has shown.
export const MODEL = 'kubiya-workflow-agent';
export const RUN = 'Run this:\n1. `echo one`\n2. `echo two`';
export const RUN_WITH_FAILURE = 'Run this:\n1. `echo one`\n2. `exit 3`';
export const PLAN = 'Create a backup workflow';
export const PLAN_STEPS = 'Create this workflow:\n1. `echo one`\n2. `echo two`';
export const RUN_IT = 'Yes, run it.';
// What the scripted model knows: a word of the message tells it what to do.
export const ANSWER = 'say hello';
export const BREAK = 'break off';
export const CALL_TOOL = 'call the tool';
export const WEATHER_TOOL = {
  description: 'The weather in a city',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' } },
    required: ['city'],
    additionalProperties: false,
  },
};
export const weather = ({ city }) => ({ city, sky: 'clear' });
