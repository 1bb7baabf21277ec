// Second wiring: the permission backend stays as it is, with the published OPA wrapper module, and stagedoor's data API
// takes the place of the OPA server that the module asks.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { freePort, Run } from '../harness/run.mjs';
import { startStagedoor, staticKeys } from '../harness/stagedoor.mjs';
import { declareHouseRules, everybody } from './house-rules.mjs';

describe('the OPA wrapper module asks stagedoor', () => {
  const entrypoint = 'rbac_policy/decision';
  let run, stagedoor, world;

  before(async () => {
    run = new Run('wrapper');
    const postgres = await startPostgres(run);
    const port = await freePort();
    stagedoor = await startStagedoor(run, {
      port: await freePort(),
      plugins: {},
      keys: staticKeys(run),
      stagedoor: { policy: { path: 'policies/wrapper', entrypoint } },
    });
    const { baseUrl, service } = await startBackstage(run, {
      name: 'backstage',
      features: ['auth', 'catalog', 'todo', 'permission'],
      port,
      postgres,
      permission: { opa: { baseUrl: stagedoor.admin, policy: { policyEntryPoint: entrypoint } } },
    });
    const wholeCatalog = await processedCatalog(service);
    world = { wholeCatalog, people: await everybody(run, baseUrl) };
  });
  after(() => run.close());

  declareHouseRules(() => world);

  test('the data API answers as an OPA server does', async () => {
    const ask = async (path, input) => {
      const body = JSON.stringify({ input });
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${stagedoor.admin}/v1/data/${path}`, { method: 'POST', headers, body });
      return { status: response.status, ...(await response.json()) };
    };
    const ann = { user: 'user:default/ann', claims: ['user:default/ann', 'group:default/web'] };

    const create = await ask(entrypoint, { permission: { name: 'todo.item.create' }, identity: ann });
    assert.equal(create.status, 200);
    assert.deepEqual(create.result, { result: 'ALLOW' });

    const read = await ask(entrypoint, { permission: { name: 'todo.item.read' }, identity: ann });
    assert.equal(read.result.result, 'CONDITIONAL');
    assert.deepEqual(read.result.conditions.anyOf[0], {
      resourceType: 'todo-item',
      rule: 'IS_OWNER',
      params: { userId: 'user:default/ann' },
    });

    const nothing = await ask('rbac_policy/no_such_rule', { permission: { name: 'todo.item.read' }, identity: ann });
    assert.equal(nothing.status, 200);
    assert.equal('result' in nothing, false);
  });
});
