// Starts what stagedoor is measured against: the published permission backend with the published OPA wrapper module,
// against an OPA server that is already there.
//
//   node bench/reference.mjs --port 7007 --opa http://127.0.0.1:8181 --entrypoint rbac_policy/decision \
//     --plugin auth=http://127.0.0.1:9001/api/auth --plugin todo=http://127.0.0.1:9001/api/todo
//
// Port 0, the default, takes a free one. `--plugin ID=URL` says where a plugin is: its keys, its apply-conditions, and
// for `auth` the keys of users and /v1/userinfo. When it is ready it prints one line, the base URL of the permission
// API, and serves until it is ended by a signal.

import { parseArgs } from 'node:util';
import { startBackstage } from '../harness/backstage.mjs';
import { freePort, Run } from '../harness/run.mjs';
import { staticKeys } from '../harness/stagedoor.mjs';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    opa: { type: 'string' },
    entrypoint: { type: 'string', default: 'rbac_policy/decision' },
    plugin: { type: 'string', multiple: true, default: [] },
  },
});

const run = new Run('bench-reference');
const { baseUrl, server } = await startBackstage(run, {
  name: 'reference',
  features: ['permission'],
  port: Number(values.port) || (await freePort()),
  endpoints: Object.fromEntries(values.plugin.map(plugin => plugin.split(/=(.*)/s))),
  auth: { pluginKeyStore: staticKeys(run) }, // the default keeps keys in a database, and nothing else here needs one
  permission: { opa: { baseUrl: values.opa, policy: { policyEntryPoint: values.entrypoint } } },
});
console.log(`${baseUrl}/api/permission`);

await server.ended;
process.exitCode = 1; // unless told to end, it should not have ended
