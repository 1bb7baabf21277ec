// Backstage backends as processes, and people who use them.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { answers, root, until } from './run.mjs';

const entitiesFile = path.join(root, 'catalog/entities.yaml');

/**
 * Starts a Backstage backend that hosts `features` (see backstage/backend.mjs) and waits until it is ready.
 * `endpoints` says where plugins of other processes are: {permission: 'http://…/api/permission'}. `auth` is added to
 * the section `backend.auth`, `permission` to the section of that name; `files` are configuration files merged after
 * that. `baseUrl` is where the backend is seen from outside, if not at its port. `backend` and `entities` take the place
 * of backstage/backend.mjs and of the catalog's file. `node` are arguments for Node itself, `env` are variables for it.
 *
 * Returns {baseUrl, file, server, service}: `file` is its configuration, and `service` calls plugins with a static
 * token, as a machine does.
 */
export async function startBackstage(run, options) {
  const { name, features, port, postgres, endpoints = {}, auth = {}, permission = {}, files = [] } = options;
  const { backend = path.join(root, 'backstage/backend.mjs'), entities = entitiesFile } = options;
  const { node = [], env = {} } = options;
  const local = `http://127.0.0.1:${port}`;
  const baseUrl = options.baseUrl ?? local;
  const token = run.secret(randomBytes(24).toString('base64url'));
  const file = run.write(`${name}.yaml`, {
    app: { baseUrl },
    backend: {
      baseUrl,
      listen: { host: '127.0.0.1', port },
      database: { client: 'pg', connection: postgres },
      auth: { externalAccess: [{ type: 'static', options: { token, subject: 'e2e' } }], ...auth },
    },
    discovery: {
      endpoints: Object.entries(endpoints).map(([plugin, target]) => ({ target, plugins: [plugin] })),
    },
    auth: { environment: 'test', providers: { 'test-proxy': {} } },
    permission: { enabled: true, ...permission },
    catalog: {
      rules: [{ allow: ['API', 'Component', 'Domain', 'Group', 'Location', 'Resource', 'System', 'User'] }],
      locations: [{ type: 'file', target: entities }],
      stitchingStrategy: { pollingInterval: { milliseconds: 100 } },
      processingInterval: { minutes: 30 },
    },
  });
  const configs = [file, ...files].flatMap(file => ['--config', file]);
  const args = [...node, backend, ...configs, '--', ...features];
  const server = run.start(name, process.execPath, args, { env: { ...process.env, ...env, NODE_ENV: 'production' } });
  await server.ready(() => answers(`${local}/.backstage/health/v1/readiness`));
  return { baseUrl, file, server, service: new Person('the service', token, baseUrl) };
}

/** One who calls plugins over HTTP, with the token that the auth plugin gave. */
export class Person {
  constructor(ref, token, baseUrl) {
    this.ref = ref;
    this.token = token;
    this.baseUrl = baseUrl;
  }

  /** Calls a plugin, `GET catalog/entities`, and returns the status and the body, parsed where it is JSON. */
  async call(request, body) {
    const [method, route] = request.split(' ');
    const response = await fetch(`${this.baseUrl}/api/${route}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    const json = response.headers.get('content-type')?.includes('application/json');
    return { status: response.status, body: json ? JSON.parse(text) : text };
  }

  /** As `call`, for an answer that must be 200: returns the body. */
  async get(route) {
    const { status, body } = await this.call(`GET ${route}`);
    if (status !== 200) throw new Error(`GET ${route} for ${this.ref}: ${status} ${JSON.stringify(body)}`);
    return body;
  }
}

/** Signs in at the auth plugin of `baseUrl`. The token is one of the run's secrets from then on. */
export async function signIn(run, baseUrl, ref) {
  const response = await fetch(`${baseUrl}/api/auth/test-proxy/refresh`, { headers: { 'x-test-user': ref } });
  const body = await response.text();
  if (!response.ok) throw new Error(`sign-in of ${ref}: ${response.status} ${body}`);
  const { token } = JSON.parse(body).backstageIdentity;
  const { uip } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  run.secret(uip);
  return new Person(ref, run.secret(token), baseUrl);
}

/**
 * Waits until the catalog has processed its file and returns every entity in it. `service` reads it, so that no policy
 * is asked.
 */
export async function processedCatalog(service, file = entitiesFile) {
  const expected = fs.readFileSync(file, 'utf8').split(/^---$/m).length + 1; // and the location of the file
  return until('the catalog is processed', async () => {
    const entities = await service.get('catalog/entities');
    const owned = entities.filter(entity => entity.spec.owner);
    const related = owned.every(entity => entity.relations.some(relation => relation.type === 'ownedBy'));
    return entities.length === expected && related && entities;
  });
}
