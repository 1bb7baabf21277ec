// docs/install.md as it is written: its files, its commands, an ingress that routes the frontend, two replicas that
// share a key, and the embedded default policy.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { ConfigReader } from '@backstage/config';
import { PermissionClient } from '@backstage/plugin-permission-common';
import { permissions } from '../backstage/todo.mjs';
import { processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { startIngress } from '../harness/ingress.mjs';
import { manual } from '../harness/manual.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { answers, freePort, Run } from '../harness/run.mjs';
import { binary } from '../harness/stagedoor.mjs';
import { everybody, people as names } from './house-rules.mjs';

describe('docs/install.md, in place of the permission backend', () => {
  const shell = command => execFileSync('sh', ['-ec', command], { cwd: run.dir, encoding: 'utf8' });
  let run, ingress, addresses, people, wholeCatalog;

  before(async () => {
    run = new Run('install');
    const postgres = await startPostgres(run);
    const ports = { backstage: await freePort(), ingress: await freePort() };
    const replicas = [];
    for (const name of ['stagedoor-1', 'stagedoor-2']) {
      replicas.push({ name, 7007: ports.backstage, 7008: await freePort(), 7009: await freePort() });
    }
    addresses = replicas[0];
    shell(manual(addresses).keys);

    // To Backstage, what balances between the replicas is stagedoor.
    const forBackstage = manual({ 7008: ports.ingress })['app-config.stagedoor.yaml'];
    const backstage = await startBackstage(run, {
      name: 'app-config',
      features: ['auth', 'catalog', 'todo', 'permission'], // the last is what step 6 takes out, left in for the tests
      port: ports.backstage,
      baseUrl: `http://127.0.0.1:${ports.ingress}`,
      postgres,
      permission: { opa: { baseUrl: 'http://127.0.0.1:9', policy: { policyEntryPoint: 'nobody/answers' } } },
      files: [run.write('app-config.stagedoor.yaml', forBackstage)],
    });
    for (const replica of replicas) {
      const file = run.write(`${replica.name}.yaml`, manual(replica)['stagedoor.yaml']);
      const cors = run.write(`${replica.name}.cors.yaml`, manual(replica)['stagedoor.cors.yaml']);
      const config = [backstage.file, file, cors].flatMap(file => ['--config', file]);
      execFileSync(binary, ['serve', ...config, '--check-config'], { cwd: run.dir });
      const server = run.start(replica.name, binary, ['serve', ...config], { cwd: run.dir });
      await server.ready(() => answers(`http://127.0.0.1:${replica[7009]}/ready`));
    }
    ingress = await startIngress(ports.ingress, {
      '/api/permission': replicas.map(replica => `http://127.0.0.1:${replica[7008]}`),
      '/': [`http://127.0.0.1:${ports.backstage}`],
    });
    wholeCatalog = await processedCatalog(backstage.service);
    people = await everybody(run, backstage.baseUrl);
  });
  after(async () => {
    await ingress?.close();
    await run.close();
  });

  test('step 4: it is up', () => {
    const [ready, health, keys, refused] = shell(manual(addresses).verify)
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line));
    assert.equal(ready.status, 'ok');
    assert.deepEqual(health, { status: 'ok' });
    const [{ kid, alg, d }, ...more] = keys.keys;
    assert.deepEqual({ kid, alg, d, more }, { kid: 'k1', alg: 'ES256', d: undefined, more: [] });
    assert.equal(refused.error.name, 'AuthenticationError');
  });

  test('the embedded default: signed-in users read', async () => {
    const all = wholeCatalog.map(entity => entity.metadata.uid).sort();
    for (const name of names) {
      const listed = await people[name].get('catalog/entities');
      assert.deepEqual(listed.map(entity => entity.metadata.uid).sort(), all);
      assert.equal((await people[name].get('todo/items')).length, 5);
      assert.equal((await people[name].call('GET todo/items/todo-4')).status, 200);
    }
  });

  test('the embedded default: owners change their entities, again and again through either replica', async () => {
    const refresh = async (name, entityRef) => (await people[name].call('POST catalog/refresh', { entityRef })).status;
    for (let i = 0; i < 6; i++) {
      assert.equal(await refresh('ann', 'component:default/storefront'), 200);
      assert.equal(await refresh('bob', 'component:default/storefront'), 403);
      assert.equal(await refresh('root', 'component:default/storefront'), 200);
    }
  });

  test('the embedded default: whatever else is for administrators', async () => {
    for (const [name, expected] of [['ann', 403], ['cy', 403], ['root', 201]]) {
      const location = { type: 'url', target: `http://127.0.0.1:9/${name}` };
      assert.equal((await people[name].call('POST catalog/locations', location)).status, expected, name);
    }
    for (const [name, expected] of [['ann', 403], ['root', 200]]) {
      assert.equal((await people[name].call('PUT todo/items/todo-1', { status: 'open' })).status, expected, name);
    }
  });

  test('step 6: a permission backend that was left in answers at the backend itself, and nobody asks it', async () => {
    const url = `http://127.0.0.1:${addresses[7007]}/api/permission/authorize`;
    const headers = { authorization: `Bearer ${people.root.token}`, 'content-type': 'application/json' };
    const body = JSON.stringify({ items: [{ id: '1', permission: permissions.create }] });
    const local = await fetch(url, { method: 'POST', headers, body });
    assert.equal(local.status, 500); // of the OPA server that its policy would ask there is none
    assert.equal((await people.root.call('POST todo/items', { owner: people.root.ref })).status, 201);
  });

  test('step 7: a frontend of another origin may ask stagedoor, of yet another may not', async () => {
    const preflight = async origin => {
      const headers = {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      };
      const url = `http://127.0.0.1:${addresses[7008]}/api/permission/authorize`;
      return (await fetch(url, { method: 'OPTIONS', headers })).headers;
    };
    const granted = await preflight('http://127.0.0.1:3000');
    assert.equal(granted.get('access-control-allow-origin'), 'http://127.0.0.1:3000');
    assert.equal(granted.get('access-control-allow-credentials'), 'true');
    assert.match(granted.get('access-control-allow-methods'), /POST/);
    assert.match(granted.get('access-control-allow-headers'), /authorization/i);
    assert.match(granted.get('access-control-allow-headers'), /content-type/i);
    assert.equal((await preflight('http://127.0.0.1:3001')).get('access-control-allow-origin'), null);
  });

  test('step 7: the frontend asks {backend.baseUrl}/api/permission and reaches stagedoor', async () => {
    const client = new PermissionClient({
      config: new ConfigReader({ permission: { enabled: true } }),
      discovery: { getBaseUrl: async plugin => `${ingress.url}/api/${plugin}` },
    });
    const requests = [
      { permission: permissions.create },
      { permission: permissions.read, resourceRef: 'todo-1' },
      { permission: permissions.update, resourceRef: 'todo-1' },
    ];
    const asked = ingress.turns['/api/permission'];
    for (const [name, expected] of [['ann', ['DENY', 'ALLOW', 'DENY']], ['root', ['ALLOW', 'ALLOW', 'ALLOW']]]) {
      const decisions = await client.authorize(requests, { token: people[name].token });
      assert.deepEqual(decisions.map(decision => decision.result), expected, name);
    }
    assert.equal(ingress.turns['/api/permission'], asked + 2);
  });

  test('step 8: an owner deletes an entity, another does not', async () => {
    const { uid } = wholeCatalog.find(entity => entity.metadata.name === 'ui-kit').metadata;
    assert.equal((await people.bob.call(`DELETE catalog/entities/by-uid/${uid}`)).status, 403);
    assert.equal((await people.ann.call(`DELETE catalog/entities/by-uid/${uid}`)).status, 204);
  });
});
