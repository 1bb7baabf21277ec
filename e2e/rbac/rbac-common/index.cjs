// plugin-rbac-backend 8 wants plugin-rbac-common 2, which differs from 1.18.0 by two functions about an entry of
// permissionMapping: an action, or {name, action}. They are described in the changelog of plugin-rbac-backend 8.0.0.
'use strict';

const isPermissionInfo = entry => typeof entry === 'object' && entry !== null && 'name' in entry;

module.exports = {
  ...require('published-rbac-common'),
  isPermissionInfo,
  permissionMappingAction: entry => (isPermissionInfo(entry) ? entry.action : entry),
};
