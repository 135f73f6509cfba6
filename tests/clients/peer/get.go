package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// options are the flags of a client.
type options struct {
	authority   string
	certificate string
	http2       bool
	tls12       bool
	proxy       string
	login       string
	serverName  string
	plain       bool
	proxyField  int
	connections int
	hold        time.Duration
	address     string
	name        string
}

func parse(arguments []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	flags.StringVar(&o.authority, "ca", "", "the authority's certificate")
	flags.StringVar(&o.certificate, "cert", "", "FILE.crt and FILE.key, without the extension")
	flags.BoolVar(&o.http2, "http2", false, "offer HTTP/2")
	flags.BoolVar(&o.tls12, "tls12", false, "offer TLS 1.2 at most")
	flags.StringVar(&o.proxy, "proxy", "", "take the address for that of a proxy: http, https or socks5")
	flags.StringVar(&o.login, "login", "", "the USER:PASSWORD in the URL of the proxy")
	flags.StringVar(&o.serverName, "server-name", "", "the server name of the hello, if it is not NAME")
	flags.BoolVar(&o.plain, "plain", false, "send the request without TLS")
	flags.IntVar(&o.proxyField, "proxy-field", 3, "bytes of a field that goes to the proxy alone")
	flags.IntVar(&o.connections, "connections", 1000, "connections in all, or agents")
	flags.DurationVar(&o.hold, "hold", 5*time.Minute, "how long a check-in is held")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if flags.NArg() != 2 {
		return o, errors.New(usage)
	}
	o.address, o.name = flags.Arg(0), flags.Arg(1)
	return o, nil
}

// client dials the address, whatever the URL says: there is no DNS.
func (o options) client() (*http.Client, error) {
	authorities, err := pool(o.authority)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: authorities, ServerName: o.name}
	if o.serverName != "" {
		config.ServerName = o.serverName
	}
	if o.tls12 {
		config.MaxVersion = tls.VersionTLS12
	}
	if o.certificate != "" {
		certificate, err := pair(o.certificate)
		if err != nil {
			return nil, err
		}
		// Sent even if the server names other authorities: its answer to that is what is tested.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &certificate, nil
		}
	}
	transport := &http.Transport{
		TLSClientConfig:   config,
		ForceAttemptHTTP2: o.http2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, o.address)
		},
	}
	if o.proxy != "" {
		proxy := url.URL{Scheme: o.proxy, Host: o.address}
		if user, password, found := strings.Cut(o.login, ":"); found {
			proxy.User = url.UserPassword(user, password)
		}
		transport.Proxy = http.ProxyURL(&proxy)
		transport.ProxyConnectHeader = http.Header{"X-Token": {strings.Repeat("x", o.proxyField)}}
	}
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}, nil
}

// get prints the body of one answer.
func get(arguments []string) error {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	body, err := fetch(client, o)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(body)
	return err
}

// churn opens connections in groups of 50, uses each one twice and closes it while it idles, as an
// agent does.
func churn(arguments []string) error {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	var (
		group    sync.WaitGroup
		slots    = make(chan struct{}, 50)
		failures = make(chan error, o.connections)
	)
	for range o.connections {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := use(o); err != nil {
				failures <- err
			}
		})
	}
	group.Wait()
	close(failures)
	if count := len(failures); count > 0 {
		return fmt.Errorf("%d of %d connections failed, the first with: %w",
			count, o.connections, <-failures)
	}
	fmt.Println(o.connections)
	return nil
}

func use(o options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	for range 2 {
		if _, err := fetch(client, o); err != nil {
			return err
		}
	}
	return nil
}

func fetch(client *http.Client, o options) ([]byte, error) {
	scheme := "https://"
	if o.plain {
		scheme = "http://"
	}
	response, err := client.Get(scheme + o.name + "/")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}
