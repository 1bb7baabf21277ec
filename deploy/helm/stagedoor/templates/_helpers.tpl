{{- define "stagedoor.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else }}{{ $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}{{ end }}{{ end -}}
{{- end }}

{{- define "stagedoor.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stagedoor.labels" -}}
{{ include "stagedoor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "stagedoor.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end }}

{{/* What cannot be said in values.schema.json, since it compares two values. */}}
{{- define "stagedoor.check" -}}
{{- $needs := add .Values.shutdownDelaySeconds 32 }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $needs) }}
{{- fail (printf "terminationGracePeriodSeconds is %d; write at least %d: shutdownDelaySeconds, 20 s for requests and 12 s for the decision log" (int .Values.terminationGracePeriodSeconds) (int $needs)) }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas is larger than autoscaling.maxReplicas" }}
{{- end }}
{{- $replicas := ternary .Values.autoscaling.minReplicas .Values.replicaCount .Values.autoscaling.enabled }}
{{- $stay := .Values.podDisruptionBudget.minAvailable }}
{{- if and .Values.podDisruptionBudget.enabled (not (kindIs "string" $stay)) (gt (int $replicas) 1) (ge (int $stay) (int $replicas)) }}
{{- fail (printf "podDisruptionBudget.minAvailable is %d of %d replicas, so that no node could be drained; write less" (int $stay) (int $replicas)) }}
{{- end }}
{{- $sources := list }}
{{- range $name := list "configMap" "oci" "http" }}{{ if get $.Values.policy $name }}{{ $sources = append $sources (printf "policy.%s" $name) }}{{ end }}{{ end }}
{{- if gt (len $sources) 1 }}
{{- fail (printf "%s are sources of the policy; keep one" (join " and " $sources)) }}
{{- end }}
{{- if and .Values.policy.tokenSecret (not .Values.policy.oci) (not .Values.policy.http) }}
{{- fail "policy.tokenSecret is for policy.oci or policy.http; name one of them, or leave the token out" }}
{{- end }}
{{- if and (eq .Values.mode "central") (gt (int $replicas) 1) (not .Values.keys.secret) }}
{{- fail (printf "%d replicas need the same key: name a Secret in keys.secret, or write replicaCount: 1" (int $replicas)) }}
{{- end }}
{{- if and .Values.autoscaling.enabled (not .Values.keys.secret) }}
{{- fail "autoscaling makes more replicas, which need the same key: name a Secret in keys.secret" }}
{{- end }}
{{- if eq (int .Values.service.port) (int .Values.service.adminPort) }}
{{- fail "service.port and service.adminPort are the same; give the operator's address a port of its own" }}
{{- end }}
{{- end }}

{{/* The file stagedoor.yaml: what the chart knows, and `config` merged over it. */}}
{{- define "stagedoor.config" -}}
{{- $host := ternary "127.0.0.1" "0.0.0.0" (eq .Values.mode "sidecar") }}
{{- $config := dict
  "backend" (dict "baseUrl" .Values.backstage.baseUrl
    "lifecycle" (dict "serverShutdownDelay" (printf "%ds" (int .Values.shutdownDelaySeconds))))
  "stagedoor" (dict
    "listen" (printf "%s:%d" $host (int .Values.service.port))
    "admin" (dict "listen" (printf "%s:%d" $host (int .Values.service.adminPort)))) }}
{{- if .Values.keys.secret }}
{{- $key := dict "publicKeyFile" "/etc/stagedoor/keys/public.pem" "privateKeyFile" "/etc/stagedoor/keys/private.pem" "keyId" .Values.keys.keyId "algorithm" "ES256" }}
{{- $_ := set $config.backend "auth" (dict "pluginKeyStore" (dict "type" "static" "static" (dict "keys" (list $key)))) }}
{{- end }}
{{- $policy := dict }}
{{- if .Values.policy.entrypoint }}{{ $_ := set $policy "entrypoint" .Values.policy.entrypoint }}{{ end }}
{{- if .Values.policy.configMap }}{{ $_ := set $policy "path" "/etc/stagedoor/policy" }}{{ end }}
{{- if $policy }}{{ $_ := set $config.stagedoor "policy" $policy }}{{ end }}
{{- if or .Values.policy.oci .Values.policy.http }}
{{- $service := dict "url" (default .Values.policy.http.url .Values.policy.oci.url) }}
{{- if .Values.policy.oci }}{{ $_ := set $service "type" "oci" }}{{ end }}
{{- if .Values.policy.tokenSecret }}{{ $_ := set $service "credentials" (dict "bearer" (dict "token_path" "/etc/stagedoor/token/token")) }}{{ end }}
{{- $bundle := dict "service" "policies" "resource" (default .Values.policy.http.resource .Values.policy.oci.image) "persist" .Values.persistence.enabled }}
{{- $opa := dict "services" (dict "policies" $service) "bundles" (dict "policy" $bundle) }}
{{- if .Values.persistence.enabled }}{{ $_ := set $opa "persistence_directory" "/var/lib/stagedoor" }}{{ end }}
{{- $_ := set $config "opa" $opa }}
{{- end }}
{{- toYaml (mustMergeOverwrite $config (deepCopy .Values.config)) }}
{{- end }}

{{/* The container, the same in central and sidecar mode. */}}
{{- define "stagedoor.container" -}}
name: stagedoor
image: {{ include "stagedoor.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/stagedoor/config/stagedoor.yaml]
ports:
  - {name: http, containerPort: {{ .Values.service.port }}, protocol: TCP}
  - {name: admin, containerPort: {{ .Values.service.adminPort }}, protocol: TCP}
env:
  - name: GOMEMLIMIT
    valueFrom: {resourceFieldRef: {containerName: stagedoor, resource: limits.memory}}
{{- with .Values.env }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- if eq .Values.mode "central" }}
startupProbe: {httpGet: {path: /health, port: admin}, periodSeconds: 1, failureThreshold: 60}
livenessProbe: {httpGet: {path: /health, port: admin}, periodSeconds: 10, timeoutSeconds: 2, failureThreshold: 3}
readinessProbe: {httpGet: {path: /ready, port: admin}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 1}
{{- end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: stagedoor-config, mountPath: /etc/stagedoor/config, readOnly: true}
{{- if .Values.keys.secret }}
  - {name: stagedoor-keys, mountPath: /etc/stagedoor/keys, readOnly: true}
{{- end }}
{{- if .Values.policy.configMap }}
  - {name: stagedoor-policy, mountPath: /etc/stagedoor/policy, readOnly: true}
{{- end }}
{{- if .Values.policy.tokenSecret }}
  - {name: stagedoor-token, mountPath: /etc/stagedoor/token, readOnly: true}
{{- end }}
{{- if .Values.persistence.enabled }}
  - {name: stagedoor-state, mountPath: /var/lib/stagedoor}
{{- end }}
{{- end }}

{{- define "stagedoor.volumes" -}}
- name: stagedoor-config
  configMap: {name: {{ include "stagedoor.fullname" . }}}
{{- if .Values.keys.secret }}
- name: stagedoor-keys
  secret: {secretName: {{ .Values.keys.secret }}, defaultMode: 0440}
{{- end }}
{{- if .Values.policy.configMap }}
- name: stagedoor-policy
  configMap: {name: {{ .Values.policy.configMap }}}
{{- end }}
{{- if .Values.policy.tokenSecret }}
- name: stagedoor-token
  secret: {secretName: {{ .Values.policy.tokenSecret }}, items: [{key: token, path: token}], defaultMode: 0440}
{{- end }}
{{- if .Values.persistence.enabled }}
- name: stagedoor-state
{{- if .Values.persistence.storageClass }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .Values.persistence.storageClass }}
        resources: {requests: {storage: {{ .Values.persistence.sizeLimit }}}}
{{- else }}
  emptyDir: {sizeLimit: {{ .Values.persistence.sizeLimit }}}
{{- end }}
{{- end }}
{{- end }}
