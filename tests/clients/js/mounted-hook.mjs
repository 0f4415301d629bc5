// A React hook on a page of its own, and a bounded wait for what it says.
import { parseHTML } from 'linkedom';

const WAIT_MILLISECONDS = 20_000;

// React looks for a browser when it is loaded. It has to be react-dom, which draws as soon as in a
// browser: the hooks of AI SDK 3.4 and 4 miss their own last message where drawing comes later.
process.env.NODE_ENV = 'production';
const { window, document } = parseHTML('<html><body></body></html>');
Object.assign(globalThis, { window, document });
globalThis.navigator ??= window.navigator;
const { createElement, useEffect } = await import('react');
const { createRoot } = await import('react-dom/client');

export class MountedHook {
  #listeners = new Set();
  #render;

  constructor(useHook) {
    const root = createRoot(document.body.appendChild(document.createElement('div')));
    const Probe = () => {
      const said = useHook();
      useEffect(() => {
        this.current = said;
        for (const listener of [...this.#listeners]) listener();
      });
      return null;
    };
    this.#render = () => root.render(createElement(Probe, { key: 'probe', time: {} }));
    this.#render();
  }

  // What the hook says once `holds` is true of it, in a rendering that begins now or later.
  async until(what, holds) {
    let listener;
    let timer;
    try {
      return await new Promise((resolve, reject) => {
        listener = () => holds(this.current) && resolve(this.current);
        const giveUp = () =>
          reject(new Error(`not ${what} in time: ${JSON.stringify(this.current)}`));
        timer = setTimeout(giveUp, WAIT_MILLISECONDS);
        this.#listeners.add(listener);
        this.#render();
      });
    } finally {
      clearTimeout(timer);
      this.#listeners.delete(listener);
    }
  }
}
