// `stagedoor inventory pull` of a running Backstage: what its plugins publish is what the stock inventory says of those
// that are there, and twice the same.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startBackstage } from '../harness/backstage.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { freePort, root, Run } from '../harness/run.mjs';
import { binary } from '../harness/stagedoor.mjs';

describe('inventory pull', () => {
  let run, service, file, dir;

  before(async () => {
    run = new Run('inventory');
    const [port, nobody] = [await freePort(), await freePort()];
    ({ service, file } = await startBackstage(run, {
      name: 'backstage', features: ['auth', 'catalog', 'todo'], port, postgres: await startPostgres(run),
      endpoints: { permission: `http://127.0.0.1:${nobody}/api/permission` }, permission: { enabled: false },
    }));
    dir = run.temporary();
  });
  after(() => run.close());

  const pull = (to, args, token = service.token) =>
    spawnSync(binary, ['inventory', 'pull', path.join(dir, to), ...args], {
      encoding: 'utf8', env: { ...process.env, STAGEDOOR_TOKEN: token },
    });
  const read = (from, name) => JSON.parse(fs.readFileSync(path.join(from, name), 'utf8'));

  test('reads what plugins publish, by base URL', () => {
    const { status, stderr } = pull('first', ['--base-url', service.baseUrl, '--plugin', 'todo']);
    assert.equal(status, 0, stderr);
    const names = read(path.join(dir, 'first'), 'permissions.json').map(p => `${p.pluginId} ${p.name}`);
    assert.ok(names.includes('catalog catalog.entity.delete'), names.join());
    assert.ok(names.some(name => name.startsWith('todo ')), names.join());

    const stock = path.join(root, '../adapter/inventory/stock');
    const catalog = rules => rules.filter(r => r.pluginId === 'catalog');
    assert.deepEqual(catalog(read(path.join(dir, 'first'), 'rules.json')), catalog(read(stock, 'rules.json')));
  });

  test('twice into equal files', () => {
    pull('second', ['--base-url', service.baseUrl, '--plugin', 'todo']);
    for (const name of ['permissions.json', 'rules.json']) {
      assert.equal(
        fs.readFileSync(path.join(dir, 'second', name), 'utf8'), fs.readFileSync(path.join(dir, 'first', name), 'utf8'));
    }
  });

  test('without a token that Backstage takes says so, and not the token', () => {
    const { status, stderr } = pull('third', ['--base-url', service.baseUrl], 'no-such-token');
    assert.equal(status, 2);
    assert.match(stderr, /it refuses the token \(status 401\)/);
    assert.doesNotMatch(stderr, /no-such-token/);
  });
});
