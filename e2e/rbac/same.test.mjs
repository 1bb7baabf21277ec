// The published RBAC plugin, with its database, and stagedoor with what `stagedoor migrate rbac` makes of the same files
// are asked for every permission of the stock plugins, by everybody in the catalog. The answers are compared as
// formulas. What differs must be one of the purposeful differences that docs/migrate/rbac.md lists by name.
//
//   node same.test.mjs            a few drawn policies beside the cases
//   SEEDS=40 node same.test.mjs   more of them

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { processedCatalog, signIn, startBackstage } from '../harness/backstage.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { freePort, root, Run } from '../harness/run.mjs';
import { binary, startStagedoor } from '../harness/stagedoor.mjs';
import { compare } from './formula.mjs';
import { people, policies } from './policies.mjs';

const seeds = Number(process.env.SEEDS ?? 8);
const entities = path.join(import.meta.dirname, 'catalog.yaml');
const backend = path.join(import.meta.dirname, 'backend.mjs');
const permissions = JSON.parse(fs.readFileSync(path.join(root, '../adapter/inventory/stock/permissions.json'), 'utf8'));

describe('stagedoor answers as the RBAC plugin does', () => {
  let run, postgres, backstage, signedIn, groups;
  let told = 0;
  const count = { asked: 0, same: 0, narrower: 0, wider: 0, other: 0 };
  const results = { ALLOW: 0, DENY: 0, CONDITIONAL: 0 };

  before(async () => {
    run = new Run('rbac');
    postgres = await startPostgres(run);
    backstage = await startBackstage(run, {
      name: 'backstage',
      features: ['auth', 'catalog', 'asker'],
      port: await freePort(),
      postgres,
      backend,
      entities,
    });
    await processedCatalog(backstage.service, entities);
    groups = run.write('groups.json', await backstage.service.get('catalog/entities?filter=kind=group'));
    signedIn = await Promise.all(people.map(name => signIn(run, backstage.baseUrl, `user:default/${name}`)));
  });
  after(() => run.close());

  for (const [n, policy] of policies(seeds).entries()) {
    test(policy.name, async () => {
      const [there, here] = await Promise.all([startPlugin(n, policy), startDoor(n, policy)]);
      const items = permissions.map(({ name, type, attributes, resourceType }, id) => ({
        id: String(id),
        permission: { name, type, attributes, ...(resourceType && { resourceType }) },
      }));
      const differences = {};
      try {
        for (const person of signedIn) {
          const [theirs, ours] = await Promise.all([there, here].map(at => ask(person, at.url, items)));
          permissions.forEach((permission, i) => {
            const how = compare(theirs[i], ours[i]);
            count.asked++;
            count[how]++;
            results[theirs[i].result]++;
            const expected = policy.differs?.[permission.name] ?? policy.differs?.[permission.resourceType];
            if (how === 'same') return;
            const difference = `${how}: ${person.ref} ${permission.name}: ${JSON.stringify(theirs[i])}, here ${JSON.stringify(ours[i])}`;
            assert.equal(how, expected, difference);
            differences[expected] = true;
          });
        }
        if (policy.told) toldByApi(n, there.url);
      } finally {
        await Promise.all([there.server.stop(), here.server.stop()]);
      }
      // A difference that is named and no longer there is to leave the page.
      assert.deepEqual(Object.keys(differences), [...new Set(Object.values(policy.differs ?? {}))]);
    });
  }

  test('none is wider, and every kind of answer was there', t => {
    t.diagnostic(JSON.stringify({ policies: policies(seeds).length, permissions: permissions.length, people: people.length, ...count, results }));
    assert.equal(count.wider + count.other, 0);
    assert.ok(told > 0, 'the REST API was asked');
    for (const [result, times] of Object.entries(results)) assert.ok(times > 100, `${result} ${times} times`);
  });

  /** The plugin in a process and a database of its own, with the policy in files. */
  async function startPlugin(n, { csv, conditions = [], rbac = {} }) {
    const files = {
      'policies-csv-file': run.write(`policy-${n}.csv`, csv.join('\n') + '\n'),
      conditionalPoliciesFile: run.write(`conditions-${n}.yaml`, conditions.map(one => `---\n${typeof one === 'string' ? one : JSON.stringify(one, null, 2)}\n`).join('')),
    };
    const port = await freePort();
    const at = plugin => `${backstage.baseUrl}/api/${plugin}`;
    const { server } = await startBackstage(run, {
      name: `plugin-${n}`,
      features: ['permission'],
      port,
      postgres,
      backend,
      endpoints: { auth: at('auth'), catalog: at('catalog'), asker: at('asker') },
      files: [
        run.write(`app-config-${n}.yaml`, {
          permission: { enabled: true, rbac: { ...rbac, ...files } },
          backend: { database: { plugin: { permission: { connection: { database: `rbac_${n}` } } } } },
        }),
      ],
    });
    return { server, url: `http://127.0.0.1:${port}/api/permission` };
  }

  /** Stagedoor with what the migration makes of the same files. */
  async function startDoor(n, policy) {
    const folder = path.join(run.dir, `bundle-${n}`);
    const file = name => path.join(run.dir, name);
    // The files are those that startPlugin writes before it first waits.
    const args = ['--policy', file(`policy-${n}.csv`), '--conditions', file(`conditions-${n}.yaml`)];
    args.push('--app-config', run.write(`rbac-${n}.yaml`, { permission: { enabled: true, rbac: policy.rbac ?? {} } }), '--catalog', groups);
    const { status, stderr } = spawnSync(binary, ['migrate', 'rbac', ...args, folder], { encoding: 'utf8' });
    assert.ok(status === 0 || status === 1, stderr);
    return startStagedoor(run, {
      name: `stagedoor-${n}`,
      port: await freePort(),
      baseUrl: backstage.baseUrl,
      stagedoor: { policy: { path: folder } },
    });
  }

  /** What the plugin's REST API tells an administrator makes the same data as the files. */
  function toldByApi(n, url) {
    const admin = signedIn.find(person => person.ref === 'user:default/eve');
    const file = name => path.join(run.dir, name);
    const folder = file(`told-${n}`);
    const args = ['--url', url.replace('/api/permission', ''), '--token-file', run.write(`token-${n}`, admin.token)];
    args.push('--app-config', file(`rbac-${n}.yaml`), '--catalog', groups, folder);
    const { status, stdout, stderr } = spawnSync(binary, ['migrate', 'rbac', ...args], { encoding: 'utf8' });
    assert.ok(status === 0 || status === 1, stderr);
    const data = of => JSON.parse(fs.readFileSync(path.join(of, 'data.json'), 'utf8'));
    const files = data(file(`bundle-${n}`));
    // The API tells of roles alone, and the migration says so.
    for (const subject of Object.keys(files.rbac.permissions)) {
      if (!subject.startsWith('role:')) delete files.rbac.permissions[subject];
    }
    assert.deepEqual(data(folder), files);
    assert.match(stdout, /lines about users and groups/);
    told++;
  }

  async function ask(person, at, items) {
    const { status, body } = await person.call('POST asker/ask', { at, items });
    assert.equal(status, 200, `${at}: ${JSON.stringify(body).slice(0, 300)}`);
    const byId = new Map(body.items.map(({ id, ...decision }) => [id, decision]));
    return items.map(({ id }) => byId.get(id));
  }
});
