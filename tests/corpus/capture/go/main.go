// Sends the client hello of Go's crypto/tls, as Elastic Agent and Beats do.
package main

import (
	"crypto/tls"
	"os"
)

func main() {
	config := &tls.Config{ServerName: "fleet.example.com"}
	for _, option := range os.Args[2:] {
		switch option {
		case "alpn":
			config.NextProtos = []string{"h2", "http/1.1"}
		case "tls12":
			config.MaxVersion = tls.VersionTLS12
		}
	}
	connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], config)
	if err == nil {
		connection.Close()
	}
}
