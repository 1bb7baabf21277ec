// Second wiring: the permission backend stays as it is, with the published OPA wrapper module, and stagedoor's data API
// takes the place of the OPA server that the module asks. Configured as docs/install.md shows it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { manual } from '../harness/manual.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { answers, freePort, root, Run } from '../harness/run.mjs';
import { binary } from '../harness/stagedoor.mjs';
import { declareHouseRules, everybody } from './house-rules.mjs';

describe('the OPA wrapper module asks stagedoor', () => {
  const entrypoint = 'rbac_policy/decision';
  let run, addresses, world;

  before(async () => {
    run = new Run('wrapper');
    const postgres = await startPostgres(run);
    addresses = { 7007: await freePort(), 7008: await freePort(), 7009: await freePort() };
    fs.cpSync(path.join(root, 'policies/wrapper'), path.join(run.dir, 'policy'), { recursive: true });
    const config = run.write('stagedoor.yaml', manual(addresses)['stagedoor-opa.yaml']);
    const stagedoor = run.start('stagedoor', binary, ['serve', '--config', config], { cwd: run.dir });
    await stagedoor.ready(() => answers(`http://127.0.0.1:${addresses[7009]}/ready`));
    const { baseUrl, service } = await startBackstage(run, {
      name: 'backstage',
      features: ['auth', 'catalog', 'todo', 'permission'],
      port: addresses[7007],
      postgres,
      files: [run.write('app-config.opa.yaml', manual(addresses)['app-config.opa.yaml'])],
    });
    const wholeCatalog = await processedCatalog(service);
    world = { wholeCatalog, people: await everybody(run, baseUrl) };
  });
  after(() => run.close());

  declareHouseRules(() => world);

  test('what docs/install.md asks to see that it works', () => {
    const { result } = JSON.parse(execFileSync('sh', ['-ec', manual(addresses)['verify-opa']], { encoding: 'utf8' }));
    assert.equal(result.result, 'CONDITIONAL');
    assert.equal(result.pluginId, 'catalog');
    assert.equal(result.resourceType, 'catalog-entity');
  });

  test('the data API answers as an OPA server does', async () => {
    const ask = async (path, input) => {
      const url = `http://127.0.0.1:${addresses[7009]}/v1/data/${path}`;
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ input }) });
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
