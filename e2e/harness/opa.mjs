// Stock OPA as a server: OPA_BIN, or bin/opa of the repository, built from the version that its go.mod pins.

import path from 'node:path';
import { answers, freePort, root } from './run.mjs';

const binary = process.env.OPA_BIN ?? path.join(root, '../bin/opa');

/** Starts an OPA server over files and folders of policy and data. */
export async function startOpa(run, { name = 'opa', paths }) {
  const address = `127.0.0.1:${await freePort()}`;
  const args = ['run', '--server', '--addr', address, '--log-level', 'error', ...paths];
  const server = run.start(name, binary, args);
  await server.ready(() => answers(`http://${address}/health`), { every: 50 });

  /** The value of a rule for an input; undefined where OPA has none. Anything but an answer is an error. */
  async function decide(entrypoint, input) {
    const response = await fetch(`http://${address}/v1/data/${entrypoint}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ input }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${entrypoint}: ${response.status} ${JSON.stringify(answer)}`);
    return answer.result;
  }
  return { url: `http://${address}`, server, decide };
}
