// First wiring: `discovery.endpoints` of a Backstage backend points plugin id `permission` at stagedoor.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ConfigReader } from '@backstage/config';
import { PermissionClient } from '@backstage/plugin-permission-common';
import { permissions } from '../backstage/todo.mjs';
import { processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { freePort, Run } from '../harness/run.mjs';
import { startStagedoor, staticKeys } from '../harness/stagedoor.mjs';
import { declareHouseRules, everybody } from './house-rules.mjs';

const wirings = {
  'resource style': { policy: { path: 'policies/house' } },
  'resource style, batched requests': { policy: { path: 'policies/house' }, batched: true },
  'decision style': { policy: { path: 'policies/wrapper', entrypoint: 'rbac_policy/decision' } },
};

for (const [name, { policy, batched = false }] of Object.entries(wirings)) {
  describe(name, () => {
    const permission = { enabled: true, EXPERIMENTAL_enableBatchedRequests: batched };
    let run, stagedoor, world;

    before(async () => {
      run = new Run(`drop-in, ${name}`);
      const postgres = await startPostgres(run);
      const [port, doorPort] = [await freePort(), await freePort()];
      stagedoor = await startStagedoor(run, {
        port: doorPort,
        baseUrl: `http://127.0.0.1:${port}`,
        keys: staticKeys(run),
        stagedoor: { policy },
      });
      const { baseUrl, service } = await startBackstage(run, {
        name: 'backstage',
        features: ['auth', 'catalog', 'todo'],
        port,
        postgres,
        endpoints: { permission: stagedoor.url },
        permission,
      });
      const wholeCatalog = await processedCatalog(service);
      world = { service, wholeCatalog, people: await everybody(run, baseUrl) };
    });
    after(() => run.close());

    test('a service token is not governed: Backstage never asks', async () => {
      const lines = () => fs.readFileSync(stagedoor.server.log, 'utf8').match(/authorize/g)?.length ?? 0;
      const before = lines();
      await world.people.ann.get('todo/items');
      const asked = lines();
      assert.ok(asked > before, 'a request of a person is in the log');

      assert.equal((await world.service.get('catalog/entities')).length, world.wholeCatalog.length);
      assert.equal((await world.service.get('todo/items')).length, 5);
      assert.equal(lines(), asked);
    });

    declareHouseRules(() => world);

    describe('the stock client with a person’s own token, as the frontend asks', () => {
      const client = () =>
        new PermissionClient({
          config: new ConfigReader({ permission }),
          discovery: { getBaseUrl: async () => stagedoor.url },
        });
      const results = decisions => decisions.map(decision => decision.result);

      test('basic permissions and single items', async () => {
        const requests = [
          { permission: permissions.create },
          { permission: permissions.read, resourceRef: 'todo-3' },
          { permission: permissions.read, resourceRef: 'todo-5' },
          { permission: permissions.update, resourceRef: 'todo-4' },
          { permission: permissions.read, resourceRef: 'no-such-item' },
        ];
        const expected = {
          ann: ['ALLOW', 'ALLOW', 'DENY', 'DENY', 'DENY'],
          bob: ['ALLOW', 'DENY', 'ALLOW', 'DENY', 'DENY'],
          cy: ['DENY', 'DENY', 'DENY', 'DENY', 'DENY'],
          root: ['ALLOW', 'ALLOW', 'ALLOW', 'ALLOW', 'ALLOW'],
        };
        for (const [name, decisions] of Object.entries(expected)) {
          const { token } = world.people[name];
          assert.deepEqual(results(await client().authorize(requests, { token })), decisions, name);
        }
      });

      test('conditions are for plugins: a person gets a plain error', async () => {
        const { token } = world.people.ann;
        await assert.rejects(client().authorizeConditional([{ permission: permissions.read }], { token }), error => {
          assert.equal(error.statusCode, 400);
          assert.equal(error.cause.name, 'InputError');
          return true;
        });
        const [decision] = await client().authorizeConditional([{ permission: permissions.create }], { token });
        assert.equal(decision.result, 'ALLOW');
      });

      test('nobody gets an answer without a good token', async () => {
        const [header, payload, signature] = world.people.ann.token.split('.');
        const forged = [header, payload, [...signature].reverse().join('')].join('.');
        for (const token of [undefined, 'garbage', forged]) {
          await assert.rejects(client().authorize([{ permission: permissions.create }], { token }), error => {
            assert.equal(error.statusCode, 401);
            assert.equal(error.cause.name, 'AuthenticationError');
            return true;
          });
        }
      });
    });
  });
}
