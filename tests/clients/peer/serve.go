package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// seen is what a server knows of a connection: the proof of who reached whom, and with what.
type seen struct {
	Server     string `json:"server"`
	ServerName string `json:"server_name"`
	Client     string `json:"client"`
	TLS        string `json:"tls"`
	Protocol   string `json:"protocol"`
}

// serve runs one server for each name, with its certificate from the directory. Those whose name
// begins with "mutual-" require a certificate of their clients, signed by ca.crt; those whose name
// ends with "logstash" speak Lumberjack, the others HTTP; those whose name ends with "proxy" are
// proxies to the other servers. The addresses go to stdout as a JSON object; it ends with stdin, so
// that it never outlives who started it.
func serve(directory string, names []string) error {
	authorities, err := pool(filepath.Join(directory, "ca.crt"))
	if err != nil {
		return err
	}
	addresses := map[string]string{}
	for _, name := range names {
		certificate, err := pair(filepath.Join(directory, name))
		if err != nil {
			return err
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		if strings.HasPrefix(name, "mutual-") {
			config.ClientAuth = tls.RequireAndVerifyClientCert
			config.ClientCAs = authorities
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses[name] = listener.Addr().String()
		if strings.HasSuffix(name, "logstash") {
			go serveLogstash(listener, config)
			continue
		}
		server := &http.Server{Handler: handler(name), TLSConfig: config}
		if strings.HasSuffix(name, "proxy") {
			server.Handler = tunnel(addresses)
			server.Protocols = new(http.Protocols)
			server.Protocols.SetHTTP1(true)
		}
		go server.ServeTLS(listener, "", "")
	}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// tunnel takes CONNECT to a host whose first label is the name of a server.
func tunnel(addresses map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.Host, ".")
		address, found := addresses[name]
		if r.Method != http.MethodConnect || !found {
			http.Error(w, "no CONNECT to one of the servers", http.StatusForbidden)
			return
		}
		server, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			return
		}
		go func() {
			defer server.Close()
			io.Copy(server, buffered)
		}()
		io.Copy(client, server)
	})
}

func handler(server string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{
			"name":         server,
			"cluster_name": "stand-in",
			"cluster_uuid": "q5ZQXUyVTNaGXC2CLqOTAg",
			"version": map[string]any{
				"number":                              "9.5.1",
				"build_flavor":                        "default",
				"minimum_wire_compatibility_version":  "8.19.0",
				"minimum_index_compatibility_version": "8.0.0",
			},
			"tagline": "You Know, for Search",
			"seen":    look(server, r),
		})
	})
	mux.HandleFunc("GET /api/status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"name": "fleet-server", "status": "HEALTHY", "seen": look(server, r)})
	})
	mux.HandleFunc("POST /api/fleet/checkin", hold)
	mux.HandleFunc("POST /_bulk", bulk)
	mux.HandleFunc("PUT /_bulk", bulk)
	return mux
}

func look(server string, r *http.Request) seen {
	seen := seen{
		Server:     server,
		ServerName: r.TLS.ServerName,
		TLS:        tls.VersionName(r.TLS.Version),
		Protocol:   r.Proto,
	}
	if len(r.TLS.PeerCertificates) > 0 {
		seen.Client = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	return seen
}

// bulk takes pairs of lines, an action and its document, and reports each document as created.
func bulk(w http.ResponseWriter, r *http.Request) {
	items := []any{}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var action struct {
			Index struct {
				Name string `json:"_index"`
			} `json:"index"`
		}
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil || !lines.Scan() {
			http.Error(w, "not a list of actions and documents", http.StatusBadRequest)
			return
		}
		if !json.Valid(lines.Bytes()) {
			http.Error(w, "a document is no JSON", http.StatusBadRequest)
			return
		}
		items = append(items, map[string]any{"index": map[string]any{
			"_index": action.Index.Name, "status": http.StatusCreated, "result": "created",
		}})
	}
	if err := lines.Err(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, map[string]any{"took": 1, "errors": false, "items": items})
}

func answer(w http.ResponseWriter, body any) {
	// The Python client takes no other server for an Elasticsearch.
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}
