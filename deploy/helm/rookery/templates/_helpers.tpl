{{- /* The name of what belongs to one cluster, and of the headless Service by which its nodes find each other. */ -}}
{{- define "rookery.name" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains "rookery" .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-rookery" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- /* What the pods are chosen by. */ -}}
{{- define "rookery.selector" -}}
app.kubernetes.io/name: rookery
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end }}

{{- define "rookery.labels" -}}
app.kubernetes.io/name: rookery
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: rookery
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "rookery.identity" -}}
{{ .Values.identitySecret | default (printf "%s-identity" (include "rookery.name" .)) }}
{{- end }}

{{- define "rookery.client" -}}
{{ .Values.clientSecret | default (printf "%s-client" (include "rookery.name" .)) }}
{{- end }}

{{- define "rookery.issuer" -}}
{{- if .Values.certManager.issuerRef -}}
{{ toYaml .Values.certManager.issuerRef }}
{{- else -}}
name: {{ include "rookery.name" . }}
kind: Issuer
{{- end -}}
{{- end }}
