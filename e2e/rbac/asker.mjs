// The plugin `asker` asks a permission backend on behalf of whoever calls it, as plugins do: the answer to a question
// about a type of resource is for plugins alone.

import { coreServices, createBackendPlugin } from '@backstage/backend-plugin-api';
import express from 'express';
import Router from 'express-promise-router';

export default createBackendPlugin({
  pluginId: 'asker',
  register(env) {
    env.registerInit({
      deps: { auth: coreServices.auth, httpAuth: coreServices.httpAuth, httpRouter: coreServices.httpRouter },
      async init({ auth, httpAuth, httpRouter }) {
        const router = Router();
        router.use(express.json({ limit: '10mb' }));
        router.post('/ask', async (req, res) => {
          const onBehalfOf = await httpAuth.credentials(req, { allow: ['user'] });
          const { token } = await auth.getPluginRequestToken({ onBehalfOf, targetPluginId: 'permission' });
          const answer = await fetch(`${req.body.at}/authorize`, {
            method: 'POST',
            headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
            body: JSON.stringify({ items: req.body.items }),
          });
          res.status(answer.status).type('json').send(await answer.text());
        });
        httpRouter.use(router);
      },
    });
  },
});
