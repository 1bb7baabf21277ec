// A split deployment, auth, catalog and todo each a process of its own, in which one after the other is killed, hangs,
// or answers nonsense. Meanwhile every answer is either the right one or an honest error in time, and when the process
// is back, so are the right answers.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { permissions } from '../backstage/todo.mjs';
import { Person, processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { freePort, Run, until } from '../harness/run.mjs';
import { startStagedoor, staticKeys } from '../harness/stagedoor.mjs';
import { everybody } from './house-rules.mjs';

const inTime = 16_000; // ms: stagedoor gives a request 15 s

const items = [
  { id: 'create', permission: permissions.create },
  { id: 'own', permission: permissions.read, resourceRef: 'todo-3' },
  { id: 'other', permission: permissions.read, resourceRef: 'todo-5' },
];
const healthy = {
  ann: { create: 'ALLOW', own: 'ALLOW', other: 'DENY' },
  bob: { create: 'ALLOW', own: 'DENY', other: 'ALLOW' },
  cy: { create: 'DENY', own: 'DENY', other: 'DENY' },
};

describe('one process after the other fails', () => {
  let run, postgres, keys, ports, endpoints, backends, door, lenient, people;
  let authFails = false;

  const host = name =>
    startBackstage(run, { name, features: [name], port: ports[name], postgres, endpoints }).then(backend => {
      backends[name] = backend;
    });
  const openDoor = (name, policy) =>
    startStagedoor(run, {
      name,
      port: ports[name],
      baseUrl: backends.catalog.baseUrl,
      plugins: endpoints,
      keys,
      stagedoor: { policy: { path: 'policies/house', ...policy } },
    });

  before(async () => {
    run = new Run('faults');
    postgres = await startPostgres(run);
    keys = staticKeys(run, ['k1', 'k2']);
    ports = {};
    for (const name of ['auth', 'catalog', 'todo', 'stagedoor', 'lenient']) ports[name] = await freePort();
    const at = (plugin, name = plugin) => `http://127.0.0.1:${ports[name]}/api/${plugin}`;
    endpoints = Object.fromEntries(['auth', 'catalog', 'todo'].map(plugin => [plugin, at(plugin)]));
    endpoints.permission = at('permission', 'stagedoor');
    backends = {};
    await Promise.all(['auth', 'catalog', 'todo'].map(host));
    door = await openDoor('stagedoor');
    lenient = await openDoor('lenient', { onError: 'deny' });
    await processedCatalog(backends.catalog.service);
    people = await everybody(run, backends.auth.baseUrl);
  });
  after(() => run.close());

  /** Asks a stagedoor as the frontend does. The answer is 200, or an error in Backstage's form, and in time. */
  async function ask(name, asked = items, url = door.url) {
    const started = performance.now();
    const response = await fetch(`${url}/authorize`, {
      method: 'POST',
      headers: { authorization: `Bearer ${people[name].token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ items: asked }),
    });
    const body = await response.json();
    const elapsed = performance.now() - started;
    assert.ok(elapsed < inTime, `answered after ${Math.round(elapsed)} ms`);
    if (response.status === 200) {
      const results = Object.fromEntries(body.items.map(item => [item.id, item.result]));
      return { status: 200, results };
    }
    // Without the keys of the auth plugin nobody can be told from a stranger, which is 401 as in the reference.
    const honest = response.status >= 500 || (authFails && response.status === 401);
    assert.ok(honest, `an honest error, not ${response.status}`);
    assert.equal(body.response.statusCode, response.status);
    assert.equal('items' in body, false);
    return { status: response.status, error: body.error.name };
  }

  async function right(name) {
    const answer = await ask(name);
    if (answer.status === 200) assert.deepEqual(answer.results, healthy[name]);
    return answer.status === 200;
  }

  async function recovers() {
    for (const name of Object.keys(healthy)) await until(`${name} is answered`, () => right(name), { seconds: 30 });
  }

  test('all is well at first', recovers);

  describe('todo', () => {
    const unavailable = { status: 503, error: 'ServiceUnavailableError' };
    const elsewhere = items.filter(item => item.id === 'create');

    test('is killed: the request fails, or with onError deny its items alone are denied', async () => {
      await backends.todo.server.stop('SIGKILL');
      const answers = [ask('ann'), ask('bob'), ask('ann', items, lenient.url)];
      const denied = { status: 200, results: { create: 'ALLOW', own: 'DENY', other: 'DENY' } };
      assert.deepEqual(await Promise.all(answers), [unavailable, unavailable, denied]);
    });

    test('and nothing else suffers by it', async () => {
      assert.deepEqual((await ask('ann', elsewhere)).results, { create: 'ALLOW' });
      const entity = { name: 'catalog.entity.refresh', type: 'resource', attributes: { action: 'update' } };
      const refresh = {
        id: 'refresh',
        permission: { ...entity, resourceType: 'catalog-entity' },
        resourceRef: 'component:default/storefront',
      };
      assert.deepEqual((await ask('ann', [refresh])).results, { refresh: 'ALLOW' });
      assert.deepEqual((await ask('bob', [refresh])).results, { refresh: 'DENY' });
    });

    test('answers nonsense', async () => {
      const nonsense = [
        [200, 'text/html', '<html>login</html>'],
        [200, 'application/json', '{"items": ['],
        [200, 'application/json', 'null'],
        [200, 'application/json', '{"items": []}'],
        [200, 'application/json', '{"items": [{"result": "ALLOW"}, {"result": "ALLOW"}]}'],
        [200, 'application/json', '{"items": [{"id": "x", "result": "ALLOW"}, {"id": "y", "result": "ALLOW"}]}'],
        [302, 'text/plain', 'elsewhere'],
        [404, 'application/json', '{"error": {"name": "NotFoundError", "message": "no such route"}}'],
        [500, 'text/plain', 'sorry'],
      ];
      let answer, calls;
      const impostor = http.createServer((req, res) => {
        calls++;
        res.writeHead(answer[0], { 'content-type': answer[1], location: 'http://127.0.0.1:9/' }).end(answer[2]);
      });
      impostor.listen(ports.todo, '127.0.0.1');
      try {
        for (answer of nonsense) {
          calls = 0;
          assert.equal('results' in (await ask('ann')), false, `${answer}`);
          assert.ok(calls > 0, `${answer} was never given`);
        }
      } finally {
        impostor.closeAllConnections();
        await new Promise(resolve => impostor.close(resolve));
      }
    });

    test('is back', async () => {
      await host('todo');
      await recovers();
    });

    test('hangs', async () => {
      backends.todo.server.kill('SIGSTOP');
      assert.deepEqual(await ask('ann'), unavailable);
      assert.deepEqual((await ask('ann', elsewhere)).results, { create: 'ALLOW' });
      backends.todo.server.kill('SIGCONT');
      await recovers();
    });
  });

  describe('auth', () => {
    // A restarted stagedoor remembers nobody: without the auth plugin it has neither keys nor user info.
    const forget = async () => {
      assert.equal(await door.server.stop(), 0);
      door = await openDoor('stagedoor');
    };

    for (const { what, fails, isBack } of [
      { what: 'is killed', fails: () => backends.auth.server.stop('SIGKILL'), isBack: () => host('auth') },
      {
        what: 'hangs',
        fails: () => backends.auth.server.kill('SIGSTOP'),
        isBack: () => backends.auth.server.kill('SIGCONT'),
      },
    ]) {
      test(what, async () => {
        await forget();
        assert.equal(await right('ann'), true);
        authFails = true;
        await fails();
        // Who is known may be answered for a while, and rightly; who is not known is not.
        assert.equal(await right('bob'), false);
        await until('nobody is known any more', async () => !(await right('ann')), { seconds: 20 });
        await forget();
        assert.equal(await right('ann'), false);
        await isBack();
        await recovers();
        authFails = false;
      });
    }
  });

  describe('stagedoor', () => {
    const list = async () => {
      const ann = new Person(people.ann.ref, people.ann.token, backends.todo.baseUrl);
      const { status, body } = await ann.call('GET todo/items');
      return status === 200 ? body.map(item => item.id) : status;
    };

    test('is killed: Backstage fails closed, and is well as soon as it is back', async () => {
      assert.deepEqual(await list(), ['todo-1', 'todo-2', 'todo-3']);
      await door.server.stop('SIGKILL');
      assert.equal(await list(), 500);
      door = await openDoor('stagedoor');
      assert.deepEqual(await list(), ['todo-1', 'todo-2', 'todo-3']);
      await recovers();
    });

    test('signs with the next key, which was published before', async () => {
      assert.equal(await door.server.stop(), 0);
      keys.static.keys.reverse();
      door = await openDoor('stagedoor');
      assert.equal(await right('ann'), true);
    });
  });
});
