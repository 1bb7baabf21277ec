// The stagedoor binary as a process: STAGEDOOR_BIN, or bin/stagedoor of the repository.

import { generateKeyPairSync } from 'node:crypto';
import path from 'node:path';
import { answers, freePort, root } from './run.mjs';

export const binary = process.env.STAGEDOOR_BIN ?? path.join(root, '../bin/stagedoor');

function keyPair(run, keyId) {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const publicKey = pair.publicKey.export({ type: 'spki', format: 'pem' });
  const privateKey = pair.privateKey.export({ type: 'pkcs8', format: 'pem' });
  return {
    publicKeyFile: run.write(`${keyId}-public.pem`, publicKey),
    privateKeyFile: run.write(`${keyId}-private.pem`, run.secret(privateKey)),
    keyId,
    algorithm: 'ES256',
  };
}

/** Key pairs in files, as `backend.auth.pluginKeyStore` wants them: a restarted stagedoor then signs as before. */
export function staticKeys(run, ids = ['k1']) {
  return { type: 'static', static: { keys: ids.map(id => keyPair(run, id)) } };
}

/**
 * Starts stagedoor and waits until a policy is active. `baseUrl` is where plugins are, but for those that `plugins`
 * names: {auth: 'http://…/api/auth'}; `stagedoor` and `opa` are the sections of its configuration.
 */
export async function startStagedoor(run, options) {
  const { name = 'stagedoor', port, baseUrl, plugins = {}, keys, stagedoor = {}, opa = {} } = options;
  const admin = `127.0.0.1:${await freePort()}`;
  const file = run.write(`${name}.yaml`, {
    backend: { baseUrl, lifecycle: { serverShutdownDelay: '0s' }, auth: { pluginKeyStore: keys } },
    discovery: {
      endpoints: Object.entries(plugins).map(([plugin, target]) => ({ target, plugins: [plugin] })),
    },
    stagedoor: { listen: `127.0.0.1:${port}`, admin: { listen: admin }, log: { level: 'debug' }, ...stagedoor },
    opa,
  });
  const server = run.start(name, binary, ['serve', '--config', file]);
  await server.ready(() => answers(`http://${admin}/ready`), { every: 50 });
  return { url: `http://127.0.0.1:${port}/api/permission`, admin: `http://${admin}`, server };
}
