{{/*
The facts of routes that the objects need, as JSON: the port of "admin", the ports in "listening", those of the endpoints in
"egress" and of DNS servers in "dns", all as texts; and the seconds of a "drain", -1 if they are unknown. Beside them "ports":
the value ports, with only the first of those that lead to the same port of the pods. A server-side apply refuses a container
that declares a port twice.
*/}}
{{- define "portway.routes" -}}
{{- $routes := .Values.routes | fromToml -}}
{{- $listening := list -}}
{{- range $routes.listeners -}}
  {{- range .bind -}}
    {{- $listening = append $listening (regexFind "[0-9]+$" .) -}}
  {{- end -}}
{{- end -}}
{{- $egress := list -}}
{{- $dns := list "53" -}}
{{- range $name, $backend := $routes.backends -}}
  {{- range dig "resolver" "servers" list $backend -}}
    {{- /* An address of IPv6 without a port may end with a number too. */ -}}
    {{- $dns = append $dns (regexFind "^([^:]*|\\[.*\\]):[0-9]+$" . | regexFind "[0-9]+$" | default "53") -}}
  {{- end -}}
  {{- $dialled := $backend.endpoints -}}
  {{- if $backend.via -}}
    {{- $dialled = list $backend.via -}}
  {{- end -}}
  {{- range $dialled -}}
    {{- $address := . -}}
    {{- if kindIs "map" . -}}
      {{- $address = .address -}}
    {{- end -}}
    {{- if hasSuffix ":{port}" $address -}}
      {{- range $routes.routes -}}
        {{- if eq .backend $name -}}
          {{- range .ports -}}
            {{- $egress = append $egress (toString .) -}}
          {{- end -}}
        {{- end -}}
      {{- end -}}
    {{- else -}}
      {{- $egress = append $egress (regexFind "[0-9]+$" $address) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $drain := 0 -}}
{{- range list (dig "limits" "drain_delay" "0s" $routes) (dig "limits" "drain_timeout" "20s" $routes) -}}
  {{- if regexMatch "^( *[0-9]+ *(ms|s|m|h|d) *)+$" (toString .) | and (ge $drain 0) -}}
    {{- range regexFindAll "[0-9]+ *[a-z]+" . -1 -}}
      {{- $factor := get (dict "ms" 0 "s" 1 "m" 60 "h" 3600 "d" 86400) (regexFind "[a-z]+" .) -}}
      {{- $drain = regexFind "[0-9]+" . | int | mul $factor | add $drain -}}
    {{- end -}}
  {{- else -}}
    {{- $drain = -1 -}}
  {{- end -}}
{{- end -}}
{{- $ports := list -}}
{{- $targets := list -}}
{{- range .Values.ports -}}
  {{- if not (has .targetPort $targets) -}}
    {{- $ports = append $ports . -}}
    {{- $targets = append $targets .targetPort -}}
  {{- end -}}
{{- end -}}
{{- dict
    "ports" $ports
    "admin" (dig "admin" "bind" "127.0.0.1:9355" $routes | toString | regexFind "[0-9]+$")
    "listening" ($listening | uniq)
    "egress" ($egress | uniq | sortAlpha)
    "dns" ($dns | uniq)
    "drain" $drain | toJson -}}
{{- end }}

{{/* Fails with everything that is wrong with routes, and with the values beside them. `portway check` does the rest. */}}
{{- define "portway.check" -}}
{{- $faults := list -}}
{{- $parsed := .Values.routes | fromToml -}}
{{- if not .Values.routes -}}
  {{- $faults = append $faults "routes is empty: add --set-file routes=routes.toml" -}}
{{- else if $parsed.Error -}}
  {{- $faults = append $faults (printf "routes cannot be read: %s; portway check shows where" $parsed.Error) -}}
{{- else -}}
  {{- $routes := include "portway.routes" . | fromJson -}}
  {{- $bind := dig "admin" "bind" "127.0.0.1:9355" $parsed | toString -}}
  {{- if or (not $routes.admin) (regexMatch "^(127\\.|\\[::1\\])" $bind) -}}
    {{- $faults = append $faults (printf "routes: the probes cannot reach admin.bind, which is %s: write bind = \"[::]:9355\" and exposed = true under [admin]" $bind) -}}
  {{- end -}}
  {{- if ne .Values.mode "hostNetwork" -}}
    {{- range $routes.listening -}}
      {{- if lt (int .) 1024 -}}
        {{- $faults = append $faults (printf "routes: an ordinary user cannot bind port %s in a pod: listen on 8443, say; ports leads another port there" .) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- range .Values.ports -}}
    {{- if not (has (toString .targetPort) $routes.listening) -}}
      {{- $faults = append $faults (printf "ports: the targetPort of %s is %v, and routes listens on %s" .name .targetPort (join ", " $routes.listening)) -}}
    {{- end -}}
  {{- end -}}
  {{- if and (eq .Values.mode "hostPort") (lt (len $routes.ports) (len .Values.ports)) -}}
    {{- $faults = append $faults "ports: with hostPort each needs a targetPort of its own: write as many ports in the bind of routes" -}}
  {{- end -}}
  {{- with .Values.terminationGracePeriodSeconds -}}
    {{- if le (int .) (int $routes.drain) -}}
      {{- $faults = append $faults (printf "terminationGracePeriodSeconds is %v: it must be more than drain_delay and drain_timeout of routes together, which are %v s" . $routes.drain) -}}
    {{- end -}}
  {{- else -}}
    {{- if lt (int $routes.drain) 0 -}}
      {{- $faults = append $faults "routes: write drain_delay and drain_timeout as in \"10s\", \"15m\" or \"1h 30m\", or set terminationGracePeriodSeconds" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor.enabled (eq .Values.mode "hostNetwork") -}}
  {{- $faults = append $faults "monitoring.podMonitor finds no pods of hostNetwork, because they declare no ports: enable monitoring.serviceMonitor instead" -}}
{{- end -}}
{{- if $faults -}}
  {{- join "\n" $faults | fail -}}
{{- end -}}
{{- end }}
