// Command peer is the other end in tests of portway with real clients: servers that answer like
// Fleet Server and Elasticsearch, and a client. Standard library only.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

const usage = `usage:
  peer serve DIRECTORY NAME...        serve each NAME on a port of 127.0.0.1, until stdin ends
  peer get [flags] HOST:PORT NAME     one request
  peer churn [flags] HOST:PORT NAME   many connections, each used, kept alive and closed
  peer agents [flags] HOST:PORT NAME  check-ins that are held, until stdin ends
  peer servers WORDS...               servers of handshakes, until stdin ends
  peer handshakes                     clients of handshakes, as the lines of stdin say`

func main() {
	err := errors.New(usage)
	if len(os.Args) > 1 && os.Args[1] == "handshakes" {
		err = handshakes()
	}
	if len(os.Args) > 2 && os.Args[1] == "servers" {
		err = serveHandshakes(os.Args[2:])
	}
	if len(os.Args) > 3 {
		switch os.Args[1] {
		case "serve":
			err = serve(os.Args[2], os.Args[3:])
		case "get":
			err = get(os.Args[2:])
		case "churn":
			err = churn(os.Args[2:])
		case "agents":
			err = agents(os.Args[2:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pool holds the certificates of a PEM file.
func pool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// pair reads NAME.crt and NAME.key.
func pair(name string) (tls.Certificate, error) {
	return tls.LoadX509KeyPair(name+".crt", name+".key")
}
