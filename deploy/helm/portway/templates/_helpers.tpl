{{/* The name of the release, with "portway" if that is not part of it. Names get up to 8 characters more. */}}
{{- define "portway.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) -}}
{{- $name = printf "%s-%s" $name .Chart.Name -}}
{{- end -}}
{{- .Values.fullnameOverride | default $name | trunc 55 | trimSuffix "-" -}}
{{- end }}

{{/* The rules and a ServiceMonitor rely on app.kubernetes.io/name. */}}
{{- define "portway.selectorLabels" -}}
app.kubernetes.io/name: portway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "portway.labels" -}}
{{ include "portway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "portway.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "portway.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "portway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The level that the namespace needs. */}}
{{- define "portway.podSecurity" -}}
{{- ternary "restricted" "privileged" (eq .Values.mode "base") -}}
{{- end }}
