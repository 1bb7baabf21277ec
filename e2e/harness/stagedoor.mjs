// The stagedoor binary as a process: STAGEDOOR_BIN, or bin/stagedoor of the repository.

import { generateKeyPairSync } from 'node:crypto';
import path from 'node:path';
import { freePort, root } from './run.mjs';

const binary = process.env.STAGEDOOR_BIN ?? path.join(root, '../bin/stagedoor');

/** A key pair in files, as `backend.auth.pluginKeyStore` wants it: a restarted stagedoor then signs as before. */
export function staticKeys(run) {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pem = { public: { type: 'spki', format: 'pem' }, private: { type: 'pkcs8', format: 'pem' } };
  const key = {
    publicKeyFile: run.write('public.pem', pair.publicKey.export(pem.public)),
    privateKeyFile: run.write('private.pem', run.secret(pair.privateKey.export(pem.private))),
    keyId: 'e2e',
    algorithm: 'ES256',
  };
  return { type: 'static', static: { keys: [key] } };
}

/**
 * Starts stagedoor and waits until a policy is active. `plugins` says where the plugins are:
 * {auth: 'http://…/api/auth'}; `stagedoor` and `opa` are the sections of its configuration.
 */
export async function startStagedoor(run, { name = 'stagedoor', port, plugins, keys, stagedoor = {}, opa = {} }) {
  const admin = `127.0.0.1:${await freePort()}`;
  const file = run.write(`${name}.yaml`, {
    backend: { auth: { pluginKeyStore: keys } },
    discovery: {
      endpoints: Object.entries(plugins).map(([plugin, target]) => ({ target, plugins: [plugin] })),
    },
    stagedoor: { listen: `127.0.0.1:${port}`, admin: { listen: admin }, ...stagedoor },
    opa,
  });
  const server = run.start(name, binary, ['serve', '--config', file]);
  await server.ready(async () => (await fetch(`http://${admin}/ready`)).ok, { every: 50 });
  return { url: `http://127.0.0.1:${port}/api/permission`, admin: `http://${admin}`, server };
}
