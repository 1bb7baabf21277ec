// The oracle of the soundness run: the permission rules of the published Backstage packages behind Backstage's own
// apply-conditions router, over resources that a request brings along.
//
//   node oracle.mjs PROJECT
//
// PROJECT is a folder whose node_modules has @backstage/plugin-catalog-backend, @backstage/plugin-scaffolder-backend
// and @backstage/plugin-permission-node. The first line of standard output is the base URL, on loopback; the process
// ends when its standard input is closed, so it never outlives the test that started it.
//
// POST {base} takes {"resources": {REF: RESOURCE}, "items": [...]}, the items being those of apply-conditions. They go
// to the router as they are, which answers. The packages have no loader for scaffolder-template and scaffolder-action,
// so every type loads from the resources of the request.

import { AsyncLocalStorage } from 'node:async_hooks';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';

const project = createRequire(join(resolve(process.argv[2]), 'package.json'));

const { createPermissionIntegrationRouter } = project('@backstage/plugin-permission-node');
const express = createRequire(project.resolve('@backstage/plugin-permission-node'))('express');

const { permissionRules } = project('@backstage/plugin-catalog-backend/alpha');
// The scaffolder does not export its rules, only factories of conditions about them.
const scaffolder = project(
  join(dirname(project.resolve('@backstage/plugin-scaffolder-backend/package.json')), 'dist/service/rules.cjs.js'),
);

const rulesByType = {
  'catalog-entity': permissionRules,
  'scaffolder-action': scaffolder.scaffolderActionRules,
  'scaffolder-template': scaffolder.scaffolderTemplateRules,
  'scaffolder-task': scaffolder.scaffolderTaskRules,
};

const requestResources = new AsyncLocalStorage();

const router = createPermissionIntegrationRouter({
  resources: Object.entries(rulesByType).map(([resourceType, rules]) => ({
    resourceType,
    permissions: [],
    rules: Object.values(rules),
    getResources: async refs => refs.map(ref => requestResources.getStore()[ref]),
  })),
});

const app = express();
app.use(express.json({ limit: '100mb' }));
app.post('/', (req, res, next) => {
  req.url = '/.well-known/backstage/permissions/apply-conditions';
  requestResources.run(req.body.resources, () => router(req, res, next));
});
app.use((err, _req, res, _next) => {
  res.status(500).json({ error: { name: err.name, message: err.message } });
});

const server = createServer(app);
server.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
process.stdin.resume().on('end', () => process.exit(0));
