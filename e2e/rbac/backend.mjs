// A Backstage backend with the published RBAC plugin, as ../backstage/backend.mjs is one without. The words after `--`
// name what this process hosts.

import { createBackend } from '@backstage/backend-defaults';

const features = {
  auth: [() => import('@backstage/plugin-auth-backend'), () => import('./sign-in.mjs')],
  catalog: [() => import('@backstage/plugin-catalog-backend')],
  asker: [() => import('./asker.mjs')],
  permission: [() => import('@backstage/plugin-permission-backend'), () => import('@backstage-community/plugin-rbac-backend')],
};

const backend = createBackend();
for (const name of process.argv.slice(process.argv.lastIndexOf('--') + 1)) {
  for (const load of features[name]) backend.add(load());
}
await backend.start();
