// A Backstage backend made of the published packages and nothing else, but for the two small plugins beside this file.
//
//   node backstage/backend.mjs --config app-config.yaml -- auth catalog todo
//
// The words after `--` name what this process hosts, so that one file is both a backend all in one and any half of a
// split deployment.

import { createBackend } from '@backstage/backend-defaults';

const features = {
  auth: [() => import('@backstage/plugin-auth-backend'), () => import('./sign-in.mjs')],
  catalog: [() => import('@backstage/plugin-catalog-backend')],
  todo: [() => import('./todo.mjs')],
  // The permission backend that stagedoor replaces, with the module by which it asks an OPA server.
  permission: [
    () => import('@backstage/plugin-permission-backend'),
    () => import('@parsifal-m/plugin-permission-backend-module-opa-wrapper'),
  ],
};

const backend = createBackend();
for (const name of process.argv.slice(process.argv.lastIndexOf('--') + 1)) {
  for (const load of features[name]) backend.add(load());
}
await backend.start();
