// The plugin `todo`: what a team writes for itself on the published permission packages. Its list route asks for the
// conditions and filters by them, its item routes ask about one item, and /editable asks about many items at once.

import { coreServices, createBackendPlugin } from '@backstage/backend-plugin-api';
import { InputError, NotAllowedError, NotFoundError } from '@backstage/errors';
import { createPermission } from '@backstage/plugin-permission-common';
import {
  createConditionAuthorizer,
  createPermissionResourceRef,
  createPermissionRule,
} from '@backstage/plugin-permission-node';
import express from 'express';
import Router from 'express-promise-router';
import { z } from 'zod';

const resourceRef = createPermissionResourceRef().with({ pluginId: 'todo', resourceType: 'todo-item' });

export const permissions = {
  create: createPermission({ name: 'todo.item.create', attributes: { action: 'create' } }),
  read: createPermission({ name: 'todo.item.read', attributes: { action: 'read' }, resourceType: 'todo-item' }),
  update: createPermission({ name: 'todo.item.update', attributes: { action: 'update' }, resourceType: 'todo-item' }),
};

const rules = [
  createPermissionRule({
    name: 'IS_OWNER',
    description: 'The item belongs to the user',
    resourceRef,
    paramsSchema: z.object({ userId: z.string() }),
    apply: (item, { userId }) => item.owner === userId,
    toQuery: ({ userId }) => ({ owner: userId }),
  }),
  createPermissionRule({
    name: 'HAS_STATUS',
    description: 'The item has one of the statuses',
    resourceRef,
    paramsSchema: z.object({ statuses: z.array(z.string()) }),
    apply: (item, { statuses }) => statuses.includes(item.status),
    toQuery: ({ statuses }) => ({ status: statuses }),
  }),
];

function firstItems() {
  return new Map(
    [
      { id: 'todo-1', owner: 'user:default/ann', status: 'open' },
      { id: 'todo-2', owner: 'user:default/bob', status: 'open' },
      { id: 'todo-3', owner: 'user:default/ann', status: 'done' },
      { id: 'todo-4', owner: 'user:default/cy', status: 'archived' },
      { id: 'todo-5', owner: 'user:default/bob', status: 'done' },
    ].map(item => [item.id, item]),
  );
}

function createRouter({ items, httpAuth, permissionsService, authorizes }) {
  const credentialsOf = req => httpAuth.credentials(req, { allow: ['user', 'service'] });

  async function demand(req, request) {
    const [decision] = await permissionsService.authorize([request], { credentials: await credentialsOf(req) });
    if (decision.result !== 'ALLOW') throw new NotAllowedError(`${request.permission.name} is denied`);
  }

  function itemOf(req) {
    const item = items.get(req.params.id);
    if (!item) throw new NotFoundError(`no item ${req.params.id}`);
    return item;
  }

  const router = Router();
  router.use(express.json());

  router.get('/items', async (req, res) => {
    const [decision] = await permissionsService.authorizeConditional([{ permission: permissions.read }], {
      credentials: await credentialsOf(req),
    });
    res.json([...items.values()].filter(item => authorizes(decision, item)));
  });

  router.post('/items', async (req, res) => {
    await demand(req, { permission: permissions.create });
    const item = { id: `todo-${items.size + 1}`, owner: req.body.owner, status: 'open' };
    items.set(item.id, item);
    res.status(201).json(item);
  });

  router.get('/items/:id', async (req, res) => {
    await demand(req, { permission: permissions.read, resourceRef: req.params.id });
    res.json(itemOf(req));
  });

  router.put('/items/:id', async (req, res) => {
    await demand(req, { permission: permissions.update, resourceRef: req.params.id });
    if (!req.body.status) throw new InputError('status is missing');
    res.json(Object.assign(itemOf(req), { status: req.body.status }));
  });

  router.get('/editable', async (req, res) => {
    const refs = [...items.keys()];
    const decisions = await permissionsService.authorize(
      refs.map(ref => ({ permission: permissions.update, resourceRef: ref })),
      { credentials: await credentialsOf(req) },
    );
    res.json(refs.filter((_, i) => decisions[i].result === 'ALLOW'));
  });

  return router;
}

export default createBackendPlugin({
  pluginId: 'todo',
  register(env) {
    env.registerInit({
      deps: {
        httpAuth: coreServices.httpAuth,
        httpRouter: coreServices.httpRouter,
        permissionsService: coreServices.permissions,
        permissionsRegistry: coreServices.permissionsRegistry,
      },
      async init({ httpAuth, httpRouter, permissionsService, permissionsRegistry }) {
        const items = firstItems();
        permissionsRegistry.addResourceType({
          resourceRef,
          permissions: Object.values(permissions),
          rules,
          getResources: async refs => refs.map(ref => items.get(ref)),
        });
        const authorizes = createConditionAuthorizer(permissionsRegistry.getPermissionRuleset(resourceRef));
        httpRouter.use(createRouter({ items, httpAuth, permissionsService, authorizes }));
      },
    });
  },
});
