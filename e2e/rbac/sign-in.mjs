// Signs in whoever the request names, as a proxy that authenticates in front of Backstage would have it. Everything
// behind the sign-in is the auth plugin's own: the catalog entity, its groups, the token and its keys.

import { createBackendModule } from '@backstage/backend-plugin-api';
import {
  authProvidersExtensionPoint,
  createProxyAuthenticator,
  createProxyAuthProviderFactory,
} from '@backstage/plugin-auth-node';

const authenticator = createProxyAuthenticator({
  defaultProfileTransform: async () => ({ profile: {} }),
  initialize: () => ({}),
  authenticate: async ({ req }) => ({ result: { user: req.header('x-test-user') } }),
});

export default createBackendModule({
  pluginId: 'auth',
  moduleId: 'test-proxy',
  register(reg) {
    reg.registerInit({
      deps: { providers: authProvidersExtensionPoint },
      async init({ providers }) {
        providers.registerProvider({
          providerId: 'test-proxy',
          factory: createProxyAuthProviderFactory({
            authenticator,
            signInResolver: ({ result }, ctx) => ctx.signInWithCatalogUser({ entityRef: result.user }),
          }),
        });
      },
    });
  },
});
