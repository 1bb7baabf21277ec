// The Backstage under test, by hand: `npm start` runs PostgreSQL and the backend until Ctrl-C, with people, a catalog
// and the plugin `todo`. Its plugins ask the stagedoor that docs/install.md puts beside it.

import { parseArgs } from 'node:util';
import { processedCatalog, startBackstage } from './harness/backstage.mjs';
import { startPostgres } from './harness/postgres.mjs';
import { Run } from './harness/run.mjs';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '7007' },
    permission: { type: 'string', default: 'http://127.0.0.1:7008/api/permission' },
  },
});

const run = new Run('by-hand');
const postgres = await startPostgres(run);
const { baseUrl, file, service } = await startBackstage(run, {
  name: 'app-config',
  features: ['auth', 'catalog', 'todo'],
  port: Number(values.port),
  postgres,
  endpoints: { permission: values.permission },
});
await processedCatalog(service);

console.log(`Backstage is at ${baseUrl}, its plugins ask ${values.permission}.
Its configuration is ${file}.

# ann, bob and cy are people, root is an administrator (catalog/entities.yaml)
TOKEN=$(curl -sS -H 'x-test-user: user:default/ann' ${baseUrl}/api/auth/test-proxy/refresh | \
  node -pe 'JSON.parse(fs.readFileSync(0)).backstageIdentity.token')
curl -sS --oauth2-bearer "$TOKEN" ${baseUrl}/api/todo/items

Ctrl-C ends it.`);
