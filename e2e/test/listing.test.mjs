// What a policy says about whole entities in stock OPA is what the catalog lists through stagedoor: for each policy and
// each person, the catalog on PostgreSQL lists exactly the entities for which stock OPA, with the entity as
// `input.resource`, says allow.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { processedCatalog, startBackstage } from '../harness/backstage.mjs';
import { startOpa } from '../harness/opa.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { freePort, root, Run } from '../harness/run.mjs';
import { startStagedoor, staticKeys } from '../harness/stagedoor.mjs';
import { everybody, people } from './house-rules.mjs';

const policies = [
  ...fs.readdirSync(path.join(root, 'policies/listing')).sort().map(name => ({
    name,
    folder: path.join(root, 'policies/listing', name),
    entrypoint: 'listing/allow',
  })),
  { name: 'ownership', folder: path.join(root, '../bundles/ownership'), entrypoint: 'ownership/allow' },
];

const permission = {
  name: 'catalog.entity.read',
  type: 'resource',
  attributes: { action: 'read' },
  resourceType: 'catalog-entity',
};
const refOf = ({ kind, metadata }) => `${kind}:${metadata.namespace}/${metadata.name}`.toLowerCase();

describe('the catalog lists what stock OPA allows', () => {
  let run, doorPort, baseUrl, keys, signedIn, wholeCatalog;

  before(async () => {
    run = new Run('listing');
    const postgres = await startPostgres(run);
    const port = await freePort();
    doorPort = await freePort();
    keys = staticKeys(run);
    const backstage = await startBackstage(run, {
      name: 'backstage',
      features: ['auth', 'catalog'],
      port,
      postgres,
      endpoints: { permission: `http://127.0.0.1:${doorPort}/api/permission` },
    });
    baseUrl = backstage.baseUrl;
    wholeCatalog = await processedCatalog(backstage.service);
    signedIn = await everybody(run, baseUrl);
  });
  after(() => run.close());

  // Every policy must split the catalog for somebody, or the comparison below would say little.
  for (const { name: policy, folder, entrypoint } of policies) {
    describe(policy, () => {
      let opa, stagedoor;
      const sizes = new Set();

      before(async () => {
        opa = await startOpa(run, { name: `opa, ${policy}`, paths: [path.join(root, '../rego'), folder] });
        stagedoor = await startStagedoor(run, {
          name: `stagedoor, ${policy}`,
          port: doorPort,
          baseUrl,
          keys,
          stagedoor: { policy: { path: folder } },
        });
      });
      after(async () => {
        await stagedoor?.server.stop();
        await opa?.server.stop();
      });

      for (const name of people) {
        test(name, async () => {
          const me = signedIn[name];
          const { claims } = await me.get('auth/v1/userinfo');
          const identity = { user: claims.sub, claims: claims.ent, actor: 'plugin:catalog' };
          const allowed = [];
          for (const resource of wholeCatalog) {
            if (await opa.decide(entrypoint, { permission, identity, resource })) allowed.push(refOf(resource));
          }
          const listed = (await me.get('catalog/entities')).map(refOf);
          assert.deepEqual(listed.sort(), allowed.sort());
          sizes.add(listed.length);
        });
      }

      test('it splits the catalog', () => {
        assert.ok([...sizes].some(size => size > 0 && size < wholeCatalog.length), `sizes ${[...sizes]}`);
      });
    });
  }
});
