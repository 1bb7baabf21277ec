// What the commands say of a policy, held against a running Backstage: people and entities as they are pulled, what a
// change of policy gains and loses, and why a policy answers as it does.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { freePort, root, Run } from '../harness/run.mjs';
import { binary, startStagedoor, staticKeys } from '../harness/stagedoor.mjs';
import { everybody, people } from './house-rules.mjs';

const house = path.join(root, 'policies/house');
const refOf = ({ kind, metadata }) => `${kind}:${metadata.namespace}/${metadata.name}`.toLowerCase();
const catalogPermissions = ['read', 'delete', 'refresh'].map(name => ({
  name: `catalog.entity.${name}`,
  type: 'resource',
  attributes: { action: name === 'refresh' ? 'update' : name },
  resourceType: 'catalog-entity',
}));

describe('a review', () => {
  let run, backstage, postgres, inventory, wholeCatalog, signedIn, database;

  before(async () => {
    run = new Run('review');
    postgres = await startPostgres(run);
    const [port, door] = [await freePort(), await freePort()];
    backstage = await startBackstage(run, {
      name: 'backstage', features: ['auth', 'catalog'], port, postgres,
      endpoints: { permission: `http://127.0.0.1:${door}/api/permission` },
    });
    await startStagedoor(run, {
      port: door, baseUrl: backstage.baseUrl, keys: staticKeys(run), stagedoor: { policy: { path: house } },
    });
    wholeCatalog = await processedCatalog(backstage.service);
    signedIn = await everybody(run, backstage.baseUrl);
    inventory = path.join(run.temporary(), 'inventory');
    database = new pg.Client({ ...postgres, database: 'backstage_plugin_catalog' });
    await database.connect();
    await pull(inventory, ['--people', '--entities']);
  });
  after(async () => {
    await database?.end();
    await run.close();
  });

  async function stagedoor(args, { input } = {}) {
    const env = { ...process.env, STAGEDOOR_TOKEN: backstage.service.token };
    return new Promise((resolve, reject) => {
      const child = execFile(binary, args, { env, maxBuffer: 1 << 28 }, (error, stdout, stderr) =>
        error ? reject(new Error(`stagedoor ${args.join(' ')}: ${error.code}\n${stderr}\n${stdout}`)) : resolve(stdout));
      child.stdin.end(input);
    });
  }
  const pull = (to, more) => stagedoor(['inventory', 'pull', to, '--base-url', backstage.baseUrl, ...more]);
  const read = name => fs.readFileSync(path.join(inventory, name), 'utf8');

  /** What the real catalog makes of a decision for entities: one answer each. */
  async function apply(decision, refs) {
    if (decision.result !== 'CONDITIONAL') return refs.map(() => decision.result);
    const { conditions, resourceType } = decision;
    const items = refs.map((resourceRef, i) => ({ id: `${i}`, resourceRef, resourceType, conditions }));
    const { status, body } = await backstage.service.call(
      'POST catalog/.well-known/backstage/permissions/apply-conditions', { items });
    assert.equal(status, 200, JSON.stringify(body));
    return body.items.map(item => item.result);
  }

  const decided = new Map();

  /** What a policy decides for a caller. It is asked once for each. */
  async function decide(policy, identity, permission) {
    const input = JSON.stringify({ permission, identity });
    if (!decided.has(policy + input)) {
      const answer = await stagedoor(['eval', policy, '--format', 'json'], { input });
      decided.set(policy + input, JSON.parse(answer).decision);
    }
    return decided.get(policy + input);
  }

  describe('inventory pull', () => {
    test('people have the claims with which they are signed in', async () => {
      const claims = {};
      for (const name of people) {
        const { claims: said } = await signedIn[name].get('auth/v1/userinfo');
        claims[said.sub] = { claims: [said.sub, ...said.ent.filter(ref => ref !== said.sub).sort()] };
      }
      assert.deepEqual(JSON.parse(read('people.json')), claims);
    });

    test('groups have their parents', () => {
      assert.deepEqual(JSON.parse(read('groups.json')), {
        'group:default/admins': {},
        'group:default/data': { parent: 'group:default/engineering' },
        'group:default/engineering': {},
        'group:default/web': { parent: 'group:default/engineering' },
      });
    });

    test('entities are those of the catalog, whole and in order', () => {
      const entities = read('entities.jsonl').trim().split('\n').map(JSON.parse);
      const byRef = (a, b) => (refOf(a) < refOf(b) ? -1 : 1);
      assert.deepEqual(entities, [...wholeCatalog].sort(byRef));
    });

    test('twice into equal files', async () => {
      const again = path.join(run.temporary(), 'again');
      await pull(again, ['--people', '--entities']);
      for (const name of fs.readdirSync(inventory)) {
        assert.equal(fs.readFileSync(path.join(again, name), 'utf8'), read(name), name);
      }
    });

    test('with parents, as claims that a sign-in of one\'s own may give', async () => {
      const parents = path.join(run.temporary(), 'parents');
      await pull(parents, ['--people', '--parents']);
      assert.deepEqual(JSON.parse(fs.readFileSync(path.join(parents, 'people.json'), 'utf8'))['user:default/ann'],
        { claims: ['user:default/ann', 'group:default/web', 'group:default/engineering'] });
    });
  });

  // What changes in a candidate: who sees and changes what, and who does everything.
  const candidates = {
    'other labels': text => text
      .replace('{"label": "confidential", "value": "true"}', '{"label": "team"}')
      .replace('not catalog.has_label(input.resource, {"label": "frozen", "value": "true"})',
        'not catalog.is_entity_kind(input.resource, {"kinds": ["System", "API"]})'),
    'other administrators': text => text.replace('"group:default/admins" in', '"group:default/data" in'),
    'nothing frozen': text => text
      .replace('\tnot catalog.has_label(input.resource, {"label": "frozen", "value": "true"})\n', ''),
  };

  test('diff counts the entities that the real catalog gives and takes', async () => {
    const everyone = JSON.parse(read('people.json'));
    const refs = wholeCatalog.map(refOf);
    const cells = new Set();
    for (const [name, change] of Object.entries(candidates)) {
      const candidate = path.join(run.temporary(), 'candidate');
      fs.cpSync(house, candidate, { recursive: true });
      const file = path.join(candidate, 'policy.rego');
      const text = fs.readFileSync(file, 'utf8');
      assert.notEqual(change(text), text);
      fs.writeFileSync(file, change(text));
      // A change tells the counts of the caller for whom most changes. So each person is asked about alone.
      for (const [user, person] of Object.entries(everyone)) {
        const one = path.join(run.temporary(), 'one');
        fs.cpSync(inventory, one, { recursive: true });
        fs.writeFileSync(path.join(one, 'people.json'), JSON.stringify({ [user]: person }));
        const { changes } = JSON.parse(await stagedoor(
          ['diff', house, candidate, '--inventory', one, '--format', 'json', '--fail-on', 'none']));
        for (const { permission, entities } of changes.filter(({ entities }) => entities)) {
          const cell = `${name}: ${entities.caller} ${permission}`;
          if (cells.has(cell)) continue;
          const identity = { user: entities.caller, claims: everyone[entities.caller]?.claims ?? [entities.caller] };
          const asked = catalogPermissions.find(p => p.name === permission);
          if (!asked || !entities.caller.startsWith('user:')) continue;
          const was = await apply(await decide(house, identity, asked), refs);
          const is = await apply(await decide(candidate, identity, asked), refs);
          const count = (from, to) => refs.filter((_, i) => was[i] === from && is[i] === to).length;
          const { gained, lost, before, after, of } = entities;
          assert.deepEqual({ gained, lost, before, after, of }, {
            gained: count('DENY', 'ALLOW'), lost: count('ALLOW', 'DENY'), of: refs.length,
            before: was.filter(result => result === 'ALLOW').length, after: is.filter(result => result === 'ALLOW').length,
          }, cell);
          cells.add(cell);
        }
      }
    }
    console.log(`${cells.size} cells: ${[...cells].join('; ')}`);
    assert.ok(cells.size >= 10, [...cells].join('; '));
  });

  describe('explain', () => {
    /** Lets the catalog have an entity otherwise, in its own database, while something is asked. */
    async function having(entity, body) {
      const { rows: [{ final_entity: was }] } = await database.query(
        'SELECT final_entity FROM final_entities WHERE entity_ref = $1', [refOf(entity)]);
      const put = text => database.query(
        'UPDATE final_entities SET final_entity = $2 WHERE entity_ref = $1', [refOf(entity), text]);
      await put(JSON.stringify(entity));
      try {
        return await body();
      } finally {
        await put(was);
      }
    }

    /** A policy without the rules that begin at some lines of its files. */
    function without(policy, rules) {
      const copy = path.join(run.temporary(), 'without');
      fs.cpSync(policy, copy, { recursive: true });
      for (const { file, line } of rules) {
        const to = path.join(copy, path.relative(policy, file));
        const lines = fs.readFileSync(to, 'utf8').split('\n');
        const rule = lines[line - 1];
        // With its METADATA, but never true.
        lines[line - 1] = rule.endsWith('{') ? `${rule} false` : rule.replace(/ if .*/, ' if false');
        assert.notEqual(lines[line - 1], rule);
        fs.writeFileSync(to, lines.join('\n'));
      }
      return copy;
    }

    for (const [name, policy] of [['house', house]]) {
      test(`${name}: every smallest change, made for real, and every rule that allowed, taken out`, async () => {
        const everyone = JSON.parse(read('people.json'));
        const counts = { denied: 0, changed: 0, allowed: 0, none: 0 };
        const removed = new Map();
        for (const [user, { claims }] of Object.entries(everyone)) {
          for (const entity of wholeCatalog) {
            const resource = run.write('resource.json', entity);
            const items = catalogPermissions.map((permission, i) => ({ id: `${i}`, permission }));
            const explanations = (await stagedoor(
              ['explain', policy, '--user', user, '--claims', claims.join(), '--resource', resource, '--format', 'json'],
              { input: JSON.stringify({ items }) })).trim().split('\n').map(JSON.parse);
            for (const [i, { result, change, decided }] of explanations.entries()) {
              const permission = catalogPermissions[i];
              const what = `${user} ${permission.name} ${refOf(entity)}`;
              const identity = { user, claims };
              const real = async (of, who, thing) =>
                having(thing, async () => (await apply(await decide(of, who, permission), [refOf(thing)]))[0]);
              assert.equal(await real(policy, identity, entity), result, what);
              if (result === 'DENY') {
                counts.denied++;
                if (!change) {
                  counts.none++;
                  continue;
                }
                counts.changed++;
                const who = change.user ? { user: change.user, claims: [change.user] }
                  : change.claim ? { user, claims: [...claims, change.claim] } : identity;
                const thing = change.resource ?? entity;
                assert.equal(refOf(thing), refOf(entity), what);
                assert.equal(await real(policy, who, thing), 'ALLOW', `${what}: ${change.text}`);
                continue;
              }
              counts.allowed++;
              assert.ok(decided?.length > 0, `${what}: no rule decided`);
              const key = JSON.stringify(decided);
              if (!removed.has(key)) removed.set(key, without(policy, decided));
              assert.equal(await real(removed.get(key), identity, entity), 'DENY', `${what}: ${key}`);
            }
          }
        }
        console.log(`${name}: ${JSON.stringify(counts)}, ${removed.size} sets of rules taken out`);
        assert.ok(counts.denied > 50 && counts.allowed > 50, JSON.stringify(counts));
        assert.equal(counts.none, 0, 'a denial for which no change was found');
      });
    }
  });
});
