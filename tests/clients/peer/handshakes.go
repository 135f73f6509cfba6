package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// words are those of a server or of a client: `key=value`, separated by commas.
type words map[string]string

func wordsOf(text string) words {
	found := words{}
	for _, word := range strings.Split(text, ",") {
		key, value, _ := strings.Cut(word, "=")
		found[key] = value
	}
	return found
}

// config has what servers and clients have in common.
func (w words) config() *tls.Config {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	config := &tls.Config{MinVersion: versions[w["min"]], MaxVersion: versions[w["max"]]}
	if w["alpn"] != "" {
		config.NextProtos = []string{w["alpn"]}
	}
	switch w["cipher"] {
	case "128":
		config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	case "256":
		config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	}
	switch w["group"] {
	case "x25519":
		config.CurvePreferences = []tls.CurveID{tls.X25519}
	case "p384":
		config.CurvePreferences = []tls.CurveID{tls.CurveP384}
	}
	return config
}

// serveHandshakes runs one server for each of the words, and prints the address of each.
func serveHandshakes(servers []string) error {
	for _, text := range servers {
		w := wordsOf(text)
		config, err := w.serverConfig()
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(w["name"], listener.Addr())
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					return
				}
				go w.answer(tls.Server(connection, config))
			}
		}()
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func (w words) serverConfig() (*tls.Config, error) {
	config := w.config()
	certificate, err := pair(w["cert"])
	if err != nil {
		return nil, err
	}
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		// Without a certificate for the name Go answers with unrecognized_name.
		if w["only"] != "" && w["only"] != hello.ServerName {
			return nil, nil
		}
		return &certificate, nil
	}
	if w["ask"] != "" {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if config.ClientCAs, err = pool(w["ask"]); err != nil {
			return nil, err
		}
	}
	_, config.SessionTicketsDisabled = w["ticketless"]
	return config, nil
}

// answer answers one request, or none if the server only closes.
func (w words) answer(secure *tls.Conn) {
	defer secure.Close()
	if err := secure.Handshake(); err != nil {
		return
	}
	if _, found := w["closes"]; found {
		return
	}
	reader := bufio.NewReader(secure)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			break
		}
	}
	io.WriteString(secure, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n")
	// To close before the client's last bytes are read would be a reset, which may overtake the answer.
	secure.CloseWrite()
	secure.NetConn().(*net.TCPConn).CloseWrite()
	secure.SetDeadline(time.Now().Add(time.Minute))
	io.Copy(io.Discard, secure.NetConn())
}

// handshakes makes the connections that each line of stdin asks for, and answers each line.
func handshakes() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		w := wordsOf(lines.Text())
		if err := w.connections(); err != nil {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
	return lines.Err()
}

func (w words) connections() error {
	config := w.config()
	config.ServerName = w["name"]
	var err error
	if config.RootCAs, err = pool(w["ca"]); err != nil {
		return err
	}
	if w["cert"] != "" {
		certificate, err := pair(w["cert"])
		if err != nil {
			return err
		}
		// Sent even if the server names other authorities.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &certificate, nil
		}
	}
	if _, resumes := w["resume"]; resumes {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	}
	count, err := strconv.Atoi(w["count"])
	if err != nil {
		return err
	}
	for range count {
		if err := w.connection(config); err != nil {
			return err
		}
	}
	return nil
}

func (w words) connection(config *tls.Config) error {
	plain, err := net.Dial("tcp", "127.0.0.1:"+w["port"])
	if err != nil {
		return err
	}
	defer plain.Close()
	if err := plain.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	secure := tls.Client(plain, config)
	if err := secure.Handshake(); err != nil {
		return err
	}
	switch w["how"] {
	case "drop":
		return nil
	case "close":
		return secure.Close()
	}
	if _, err := io.WriteString(secure, "GET / HTTP/1.1\r\nHost: "+w["name"]+"\r\n\r\n"); err != nil {
		// The server's alert says why.
		if _, reason := io.ReadAll(secure); reason != nil {
			return reason
		}
		return err
	}
	if w["how"] == "half" {
		if err := secure.CloseWrite(); err != nil {
			return err
		}
	}
	body, err := io.ReadAll(secure)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return errors.New("no answer")
	}
	return secure.Close()
}
