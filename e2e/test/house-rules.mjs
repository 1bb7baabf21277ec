// What the house rules mean for the four people of the catalog, asserted from outside: policies/house and
// policies/wrapper say the same in two styles, so every wiring must give the same answers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signIn } from '../harness/backstage.mjs';

export const people = ['ann', 'bob', 'cy', 'root'];

/** Signs everybody in and returns them by name. The catalog must have been processed. */
export async function everybody(run, baseUrl) {
  const signedIn = people.map(async name => [name, await signIn(run, baseUrl, `user:default/${name}`)]);
  return Object.fromEntries(await Promise.all(signedIn));
}

const named = entities => entities.map(entity => entity.metadata.name).sort();
const entity = name => `catalog/entities/by-name/component/default/${name}`;

const hidden = {
  ann: ['reports', 'salaries', 'vault'],
  bob: ['salaries'],
  cy: ['reports', 'salaries', 'vault'],
  root: [],
};

/**
 * Declares the tests. `at()` returns {people, wholeCatalog} once the backends are up; `wholeCatalog` has every entity
 * there is, read by a way that asks no policy.
 */
export function declareHouseRules(at) {
  for (const name of people) {
    test(`${name} sees the catalog`, async () => {
      const { people, wholeCatalog } = at();
      const visible = named(wholeCatalog).filter(entity => !hidden[name].includes(entity));
      const me = people[name];

      assert.deepEqual(named(await me.get('catalog/entities')), visible);
      const page = await me.get('catalog/entities/by-query?limit=100');
      assert.deepEqual(named(page.items), visible);
      assert.equal(page.totalItems, visible.length);
      const { facets } = await me.get('catalog/entity-facets?facet=metadata.name');
      assert.equal(facets['metadata.name'].length, new Set(visible).size);

      for (const target of ['storefront', 'reports', 'salaries']) {
        const expected = hidden[name].includes(target) ? 404 : 200;
        assert.equal((await me.call(`GET ${entity(target)}`)).status, expected, target);
      }
    });

    test(`${name} asks about single entities`, async () => {
      const me = at().people[name];
      for (const target of ['storefront', 'reports', 'salaries']) {
        const { status, body } = await me.call(`GET ${entity(target)}/ancestry`);
        assert.equal(status, hidden[name].includes(target) ? 403 : 200, target);
        if (status === 200) assert.equal(body.items.length, 2); // the entity and the location that it came from
      }
      const changes = {
        ann: { storefront: 200, checkout: 403, warehouse: 403, notebook: 403 },
        bob: { storefront: 403, checkout: 403, warehouse: 200, notebook: 200 },
        cy: { storefront: 403, checkout: 403, warehouse: 403, notebook: 403 },
        root: { storefront: 200, checkout: 200, warehouse: 200, notebook: 200 },
      };
      for (const [target, expected] of Object.entries(changes[name])) {
        const { status } = await me.call('POST catalog/refresh', { entityRef: `component:default/${target}` });
        assert.equal(status, expected, target);
      }
    });

    test(`${name} has to do`, async () => {
      const me = at().people[name];
      const expected = {
        ann: { list: [1, 2, 3], item3: 200, item5: 403, missing: 403, editable: [1, 3] },
        bob: { list: [1, 2, 5], item3: 403, item5: 200, missing: 403, editable: [2, 5] },
        cy: { list: [1, 2, 4], item3: 403, item5: 403, missing: 403, editable: [] },
        root: { list: [1, 2, 3, 4, 5], item3: 200, item5: 200, missing: 404, editable: [1, 2, 3, 4, 5] },
      }[name];
      const ids = numbers => numbers.map(number => `todo-${number}`);

      assert.deepEqual((await me.get('todo/items')).map(item => item.id), ids(expected.list));
      assert.equal((await me.call('GET todo/items/todo-3')).status, expected.item3);
      assert.equal((await me.call('GET todo/items/todo-5')).status, expected.item5);
      assert.equal((await me.call('GET todo/items/todo-9')).status, expected.missing);
      assert.deepEqual(await me.get('todo/editable'), ids(expected.editable));
    });
  }

  test('the owner of an item changes it, others do not', async () => {
    const { ann, bob, cy } = at().people;
    assert.equal((await bob.call('PUT todo/items/todo-1', { status: 'done' })).status, 403);
    assert.equal((await ann.call('PUT todo/items/todo-1', { status: 'done' })).status, 200);
    assert.deepEqual((await cy.get('todo/items')).map(item => item.id), ['todo-2', 'todo-4']);
    assert.equal((await ann.call('PUT todo/items/todo-1', { status: 'open' })).status, 200);
  });

  test('a member of a group makes an item, another does not', async () => {
    const { ann, cy, root } = at().people;
    assert.equal((await cy.call('POST todo/items', { owner: cy.ref })).status, 403);
    assert.equal((await ann.call('POST todo/items', { owner: ann.ref })).status, 201);
    assert.equal((await root.get('todo/items')).length, 6);
  });

  test('the owner of an entity deletes it, unless it is frozen; an administrator deletes any', async () => {
    const { people, wholeCatalog } = at();
    const uid = name => wholeCatalog.find(entity => entity.metadata.name === name).metadata.uid;
    const remove = (who, name) => people[who].call(`DELETE catalog/entities/by-uid/${uid(name)}`);

    assert.equal((await remove('bob', 'ui-kit')).status, 403);
    assert.equal((await remove('cy', 'ui-kit')).status, 403);
    assert.equal((await remove('ann', 'checkout')).status, 403);
    assert.equal((await people.root.call(`GET catalog/entities/by-uid/${uid('ui-kit')}`)).status, 200);

    assert.equal((await remove('ann', 'ui-kit')).status, 204);
    assert.equal((await people.root.call(`GET catalog/entities/by-uid/${uid('ui-kit')}`)).status, 404);
    assert.equal((await remove('root', 'checkout')).status, 204);
    assert.equal((await people.root.call(`GET catalog/entities/by-uid/${uid('checkout')}`)).status, 404);
  });
}
