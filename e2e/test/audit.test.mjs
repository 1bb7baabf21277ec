// The decision log of a run, read back and held against what went over the wire between Backstage and stagedoor.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { permissions } from '../backstage/todo.mjs';
import { processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { startIngress } from '../harness/ingress.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { startReceiver } from '../harness/receiver.mjs';
import { freePort, root, Run, until } from '../harness/run.mjs';
import { binary, startStagedoor, staticKeys } from '../harness/stagedoor.mjs';
import { declareHouseRules, everybody } from './house-rules.mjs';

// Two answers at once, which Rego has not: what a policy's author may get wrong without noticing.
const broken = `package acme.authz

allow := true if input.permission.name == "audited.broken"

allow := false if input.permission.name == "audited.broken"
`;

describe('the decision log', () => {
  let run, policy, ports, keys, receiver, stagedoor, ingress, backstage, world;
  const exchanges = [];

  const openDoor = (name, port, stagedoorConfig = {}, reporting = {}) =>
    startStagedoor(run, {
      name,
      port,
      baseUrl: `http://127.0.0.1:${ports.backstage}`,
      keys,
      stagedoor: { policy: { path: policy }, ...stagedoorConfig },
      opa: {
        services: { audit: { url: `http://127.0.0.1:${ports.receiver}` } },
        decision_logs: { service: 'audit', reporting },
      },
    });

  before(async () => {
    run = new Run('audit');
    const postgres = await startPostgres(run);
    keys = staticKeys(run);
    policy = path.join(run.dir, 'policy');
    fs.cpSync(path.join(root, 'policies/house'), policy, { recursive: true });
    fs.writeFileSync(path.join(policy, 'broken.rego'), broken);
    ports = {};
    for (const name of ['backstage', 'ingress', 'receiver', 'stagedoor']) ports[name] = await freePort();
    receiver = await startReceiver(run, ports.receiver);
    stagedoor = await openDoor('stagedoor', ports.stagedoor, { audit: { callers: true } });
    ingress = await startIngress(ports.ingress, { '/': [`http://127.0.0.1:${ports.stagedoor}`] }, exchange => {
      if (exchange.path.endsWith('/authorize')) exchanges.push(exchange);
    });
    backstage = await startBackstage(run, {
      name: 'backstage',
      features: ['auth', 'catalog', 'todo'],
      port: ports.backstage,
      postgres,
      endpoints: { permission: `${ingress.url}/api/permission` },
      permission: { EXPERIMENTAL_enableBatchedRequests: true },
    });
    const wholeCatalog = await processedCatalog(backstage.service);
    world = { wholeCatalog, people: await everybody(run, backstage.baseUrl) };
  });
  after(async () => {
    await ingress?.close();
    await run.close();
    await receiver?.close();
  });

  async function authorize(name, items, url = `${ingress.url}/api/permission`) {
    const headers = { authorization: `Bearer ${world.people[name].token}`, 'content-type': 'application/json' };
    const response = await fetch(`${url}/authorize`, { method: 'POST', headers, body: JSON.stringify({ items }) });
    return { status: response.status, id: response.headers.get('x-request-id'), body: await response.json() };
  }
  const eventsOf = id => receiver.events.filter(event => event.custom.request_id === id);
  const recorded = (id, count) =>
    until(`request ${id} is recorded`, () => eventsOf(id).length >= count && eventsOf(id), { seconds: 20 });

  declareHouseRules(() => world);

  test('every decision on the wire is there, in order, with its answer and its revision', async () => {
    const { revisions } = await (await fetch(`${stagedoor.admin}/status`)).json();
    const batches = new Set();
    let conditional = 0;
    let remembered = 0;
    assert.ok(exchanges.length > 50, `${exchanges.length} exchanges`);
    for (const { status, headers, request, response } of exchanges) {
      assert.equal(status, 200);
      const { items } = JSON.parse(request);
      const answers = JSON.parse(response).items;
      const events = await recorded(headers['x-request-id'], items.length);
      assert.equal(events.length, items.length);
      assert.equal(new Set(events.map(event => event.batch_decision_id)).size, 1);
      assert.equal(batches.has(events[0].batch_decision_id), false);
      batches.add(events[0].batch_decision_id);

      items.forEach((item, i) => {
        const event = events[i];
        assert.equal(event.custom.item, i);
        assert.equal(event.input.permission.name, item.permission.name);
        assert.equal('resourceRef' in event.input, false);
        assert.match(event.input.identity.user, /^user:default\/(ann|bob|cy|root)$/);
        assert.equal(event.path, 'acme/authz/allow');
        assert.deepEqual(
          Object.fromEntries(Object.entries(event.bundles).map(([name, { revision }]) => [name, revision])),
          revisions,
        );
        // What the policy said, what the plugin made of it, and what the caller was told.
        const answer = answers[i];
        if (event.result.result !== 'CONDITIONAL') {
          assert.equal(answer.result, event.result.result);
        } else if (item.resourceRef === undefined) {
          const { result, pluginId, resourceType, conditions } = answer;
          assert.deepEqual({ result, pluginId, resourceType, conditions }, event.result);
        } else {
          conditional++;
          const applied = event.custom.apply_conditions;
          assert.deepEqual(applied.resource_refs, [item.resourceRef].flat());
          assert.deepEqual(applied.results, [answer.result].flat());
          assert.deepEqual(event.mapped_result, applied.results);
        }
        if (event.custom.remembered) remembered++;
      });
    }
    assert.ok(conditional > 10, `${conditional} conditional decisions were applied`);
    assert.ok(remembered > 10 && remembered < receiver.events.length, `${remembered} decisions were remembered`);
  });

  test('batched requests are one decision for many resources', async () => {
    const before = exchanges.length;
    await world.people.bob.get('todo/editable');
    const [{ request, headers }] = exchanges.slice(before);
    const { items } = JSON.parse(request);
    assert.equal(items.length, 1);
    assert.ok(items[0].resourceRef.length >= 5);
    const [event] = await recorded(headers['x-request-id'], 1);
    assert.deepEqual(event.custom.apply_conditions.resource_refs, items[0].resourceRef);
  });

  test('a failure of the policy is there', async () => {
    const items = [
      { id: 'sound', permission: permissions.create },
      { id: 'broken', permission: { type: 'basic', name: 'audited.broken', attributes: {} } },
    ];
    const { status, id, body } = await authorize('ann', items);
    assert.equal(status, 500);
    assert.equal('items' in body, false);
    const [sound, broken] = await recorded(id, 2);
    assert.equal(sound.result.result, 'ALLOW');
    assert.ok(sound.custom.unanswered);
    assert.equal(broken.custom.error.code, 'evaluation');
    assert.match(broken.custom.error.message, /conflict/);
    assert.equal('result' in broken, false);
  });

  test('a plugin that does not answer is there', async () => {
    backstage.server.kill('SIGSTOP');
    const { status, id } = await authorize('ann', [{ id: '1', permission: permissions.read, resourceRef: 'todo-3' }]);
    backstage.server.kill('SIGCONT');
    assert.equal(status, 503);
    const [event] = await recorded(id, 1);
    assert.equal(event.result.result, 'CONDITIONAL');
    assert.ok(event.custom.apply_conditions.error);
    assert.ok(event.custom.unanswered);
    assert.equal('mapped_result' in event, false);
  });

  async function withoutReceiver(body) {
    await receiver.close();
    try {
      await body();
    } finally {
      await receiver.listen();
    }
  }

  test('with the receiver down, what is dropped is counted', async () => {
    const small = await openDoor('small-buffer', await freePort(), {}, { buffer_size_limit_events: 5 });
    const dropped = async () => {
      const metrics = await (await fetch(`${small.admin}/metrics`)).text();
      return Number(metrics.match(/^decision_logs_dropped_buffer_size_limit_exceeded\S* (\S+)$/m)?.[1] ?? 0);
    };
    const one = await authorize('ann', [{ id: '1', permission: permissions.create }], small.url);
    await recorded(one.id, 1);
    assert.equal(await dropped(), 0);
    await withoutReceiver(async () => {
      const items = Array.from({ length: 50 }, (_, i) => ({ id: `${i}`, permission: permissions.create }));
      const { status, id } = await authorize('ann', items, small.url);
      assert.equal(status, 200);
      await until('drops are counted', async () => (await dropped()) >= 40, { seconds: 20 });
      assert.deepEqual(eventsOf(id), []);
    });
  });

  test('audit.required: what cannot be recorded is not answered', async () => {
    const strict = await openDoor('strict', await freePort(), { audit: { required: true } });
    const items = [{ id: '1', permission: permissions.create }];
    const good = await authorize('ann', items, strict.url);
    assert.equal(good.status, 200);
    assert.equal(eventsOf(good.id).length, 1); // before the answer, so there is nothing to wait for

    await withoutReceiver(async () => {
      const unrecorded = await authorize('ann', items, strict.url);
      assert.equal(unrecorded.status, 503);
      assert.equal('items' in unrecorded.body, false);
    });
    assert.equal((await authorize('ann', items, strict.url)).status, 200);
  });

  test('the log, replayed on the policy that made it, shows no difference', () => {
    const log = path.join(run.dir, 'decisions.log');
    const { status, stdout, stderr } = spawnSync(
      binary, ['replay', log, '--policy', policy, '--format', 'json'], { encoding: 'utf8' });
    assert.equal(status, 0, stderr + stdout);
    const { summary, changes } = JSON.parse(stdout);
    console.log(JSON.stringify(summary));
    assert.deepEqual(changes ?? [], []);
    assert.ok(summary.events > 80 && summary.same === summary.events, JSON.stringify(summary));
  });
});
