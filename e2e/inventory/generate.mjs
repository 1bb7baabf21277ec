// Writes the stock inventory, permissions.json and rules.json, into the folder named as argument (by default
// adapter/inventory/stock): what the published packages of Backstage's plugins export and publish, in the form that
// adapter/inventory writes itself.
//
// Permissions are the exports of the -common packages. Rules are what the metadata endpoint of
// @backstage/plugin-permission-node, the real one, publishes of the backends' rules. What the registry does not have is
// in unpublished.json: facts alone, each with the repository, commit and path in which it was read.
import fs from 'node:fs';
import http from 'node:http';
import Module, { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const unpublished = JSON.parse(fs.readFileSync(path.join(here, 'unpublished.json'), 'utf8'));

/** Which plugin the permissions of a package are of, and which of its files export rules. */
const sources = [
  { plugin: 'catalog', permissions: '@backstage/plugin-catalog-common' },
  { plugin: 'catalog', permissions: '@backstage/plugin-catalog-unprocessed-entities-common' },
  { plugin: 'catalog', rules: ['@backstage/plugin-catalog-backend/dist/permissions/rules/index.cjs.js'] },
  { plugin: 'scaffolder', permissions: '@backstage/plugin-scaffolder-common' },
  { plugin: 'scaffolder', rules: ['@backstage/plugin-scaffolder-backend/dist/service/rules.cjs.js'] },
  { plugin: 'kubernetes', permissions: '@backstage/plugin-kubernetes-common' },
  { plugin: 'techdocs', permissions: '@backstage/plugin-techdocs-common' },
  { plugin: 'search', permissions: '@backstage/plugin-search-common' },
  { plugin: 'devtools', permissions: '@backstage/plugin-devtools-common' },
  { plugin: 'notifications', permissions: '@backstage/plugin-notifications-common' },
  { plugin: 'permission', permissions: '@backstage-community/plugin-rbac-common' },
  { plugin: 'permission', rules: ['@backstage-community/plugin-rbac-backend/dist/permissions/rules.cjs.js'] },
  { plugin: 'playlist', rules: ['@backstage-community/plugin-playlist-backend/dist/permissions/rules.cjs.js'] },
  { plugin: 'jenkins', permissions: '@backstage-community/plugin-jenkins-common' },
  { plugin: 'azure-devops', permissions: '@backstage-community/plugin-azure-devops-common' },
  { plugin: 'argocd', permissions: '@backstage-community/plugin-argocd-common' },
  { plugin: 'tech-insights', permissions: '@backstage-community/plugin-tech-insights-common' },
  { plugin: 'quay', permissions: '@backstage-community/plugin-quay-common' },
  { plugin: 'multi-source-security-viewer', permissions: '@backstage-community/plugin-multi-source-security-viewer-common' },
  { plugin: 'feedback', rules: ['@backstage-community/plugin-feedback-backend/dist/permissions/rules/isFeedbackOwner.cjs.js'] },
  { plugin: 'extensions', rules: ['@red-hat-developer-hub/backstage-plugin-extensions-backend/dist/permissions/rules.cjs.js'] },
  { plugin: 'orchestrator', rules: ['@red-hat-developer-hub/backstage-plugin-orchestrator-backend/dist/service/permission-rules.cjs.js'] },
  { plugin: 'scorecard', permissions: '@red-hat-developer-hub/backstage-plugin-scorecard-common' },
  { plugin: 'scorecard', rules: ['@red-hat-developer-hub/backstage-plugin-scorecard-backend/dist/permissions/rules.cjs.js'] },
  { plugin: 'homepage', permissions: '@red-hat-developer-hub/backstage-plugin-homepage-common' },
  { plugin: 'homepage', rules: ['@red-hat-developer-hub/backstage-plugin-homepage-backend/dist/permissions/rules.cjs.js'] },
  { plugin: 'adoption-insights', permissions: '@red-hat-developer-hub/backstage-plugin-adoption-insights-common' },
];

// A package that the registry lacks is its constants alone.
const load = Module._load;
Module._load = function loaded(request, ...rest) {
  const missing = unpublished.find(p => p.package === request);
  return missing ? (missing.constants ?? {}) : load.call(this, request, ...rest);
};

const isPermission = v =>
  v && typeof v === 'object' && (v.type === 'basic' || v.type === 'resource') && typeof v.name === 'string' && v.attributes;
const isRule = v => v && typeof v === 'object' && typeof v.name === 'string' && typeof v.apply === 'function' && v.resourceType;

/** Everything of a kind in what a package exports, in lists and objects too. */
function* found(exported, is, depth = 3) {
  if (is(exported)) {
    yield exported;
  } else if (depth > 0 && exported && typeof exported === 'object') {
    for (const member of Object.values(exported)) yield* found(member, is, depth - 1);
  }
}

/** The module of a package and, where it has one, that of its alpha exports. */
function entries(name) {
  const { exports } = JSON.parse(fs.readFileSync(path.join(here, 'node_modules', name, 'package.json'), 'utf8'));
  return exports?.['./alpha'] ? [name, `${name}/alpha`] : [name];
}

function permission(plugin, { name, attributes, resourceType }) {
  const action = attributes.action ? { action: attributes.action } : {};
  return {
    name, type: resourceType ? 'resource' : 'basic', attributes: action, ...(resourceType && { resourceType }), pluginId: plugin,
  };
}

const sorted = value =>
  Array.isArray(value)
    ? value.map(sorted)
    : value && typeof value === 'object'
      ? Object.fromEntries(Object.keys(value).sort().map(key => [key, sorted(value[key])]))
      : value;

const rule = (plugin, { resourceType, name, description, paramsSchema }) => ({
  pluginId: plugin, resourceType, name, ...(description && { description }),
  ...(paramsSchema && { paramsSchema: sorted(paramsSchema) }),
});

/** What the plugin's metadata endpoint answers about the rules. */
async function published(rules) {
  const { createPermissionIntegrationRouter } = require('@backstage/plugin-permission-node');
  const byType = Map.groupBy ? Map.groupBy(rules, r => r.resourceType) : group(rules);
  const resources = [...byType].map(([resourceType, of]) => ({ resourceType, rules: of, permissions: [] }));
  const app = require('express')();
  app.use(createPermissionIntegrationRouter({ resources }));
  const server = http.createServer(app);
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${server.address().port}/.well-known/backstage/permissions/metadata`;
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`the metadata endpoint answers ${answer.status}: ${await answer.text()}`);
    return (await answer.json()).rules;
  } finally {
    server.close();
  }
}

function group(rules) {
  const types = new Map();
  for (const r of rules) types.set(r.resourceType, [...(types.get(r.resourceType) ?? []), r]);
  return types;
}

/** A type of unpublished.json, such as string[]?, as JSON Schema. */
const schemaOf = type => {
  const item = { type: type.replace(/[[\]?]+$/, '') };
  return type.includes('[]') ? { type: 'array', items: item } : item;
};

function paramsSchema(params) {
  const required = Object.keys(params).filter(name => !params[name].endsWith('?'));
  return {
    $schema: 'http://json-schema.org/draft-07/schema#', type: 'object',
    properties: Object.fromEntries(Object.entries(params).map(([name, type]) => [name, schemaOf(type)])),
    ...(required.length > 0 && { required }), additionalProperties: false,
  };
}

const permissions = new Map();
const rules = new Map();
const add = (plugin, p) => permissions.set(p.name, permission(plugin, p));
const addRule = (plugin, r) => rules.set(`${plugin} ${r.resourceType} ${r.name}`, rule(plugin, r));

for (const source of sources) {
  if (source.permissions) {
    for (const entry of entries(source.permissions)) {
      for (const p of found(require(entry), isPermission)) add(source.plugin, p);
    }
  }
  for (const file of source.rules ?? []) {
    const exported = [...new Set(found(require(path.join(here, 'node_modules', file)), isRule))];
    if (exported.length === 0) throw new Error(`${file} exports no rule`);
    for (const r of await published(exported)) addRule(source.plugin, r);
  }
}
for (const source of unpublished) {
  for (const p of source.permissions ?? []) add(source.plugin, { ...p, attributes: { action: p.action } });
  for (const r of source.rules ?? []) addRule(source.plugin, { ...r, paramsSchema: paramsSchema(r.params) });
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const files = {
  'permissions.json': [...permissions.values()].sort((a, b) => compare(a.name, b.name)),
  'rules.json': [...rules.values()].sort(
    (a, b) => compare(a.pluginId, b.pluginId) || compare(a.resourceType, b.resourceType) || compare(a.name, b.name)),
};
const to = process.argv[2] ?? path.join(here, '..', '..', 'adapter', 'inventory', 'stock');
fs.mkdirSync(to, { recursive: true });
for (const [name, value] of Object.entries(files)) {
  fs.writeFileSync(path.join(to, name), `${JSON.stringify(value, null, 2)}\n`);
  console.log(`${name}: ${value.length}`);
}
