package main

import (
	"bufio"
	"compress/zlib"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
)

// serveLogstash accepts connections of Lumberjack, version 2, as the beats input of Logstash does.
func serveLogstash(listener net.Listener, config *tls.Config) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			secure := tls.Server(connection, config)
			defer secure.Close()
			_ = acknowledge(secure)
		}()
	}
}

// acknowledge reads windows of events, and acknowledges each window once it has every event of it.
func acknowledge(connection net.Conn) error {
	reader := bufio.NewReader(connection)
	for {
		var window uint32
		if err := frame(reader, 'W', &window); err != nil {
			return err
		}
		if err := events(reader, window); err != nil {
			return err
		}
		answer := binary.BigEndian.AppendUint32([]byte("2A"), window)
		if _, err := connection.Write(answer); err != nil {
			return err
		}
	}
}

// events reads a window of JSON events, compressed together.
func events(reader *bufio.Reader, window uint32) error {
	var size uint32
	if err := frame(reader, 'C', &size); err != nil {
		return err
	}
	plain, err := zlib.NewReader(io.LimitReader(reader, int64(size)))
	if err != nil {
		return err
	}
	inner := bufio.NewReader(plain)
	for number := range window {
		var sequence, length uint32
		if err := frame(inner, 'J', &sequence, &length); err != nil {
			return err
		}
		if sequence != number+1 || length > 1<<20 {
			return fmt.Errorf("event %d has the sequence number %d and %d bytes", number+1, sequence, length)
		}
		event := make([]byte, length)
		if _, err := io.ReadFull(inner, event); err != nil {
			return err
		}
		if !json.Valid(event) {
			return errors.New("an event is no JSON")
		}
	}
	// The checksum behind the last event.
	_, err = io.Copy(io.Discard, inner)
	return err
}

func frame(reader io.Reader, kind byte, numbers ...*uint32) error {
	var head [2]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil {
		return err
	}
	if head != [2]byte{'2', kind} {
		return fmt.Errorf("frame %q instead of 2%c", head, kind)
	}
	for _, number := range numbers {
		if err := binary.Read(reader, binary.BigEndian, number); err != nil {
			return err
		}
	}
	return nil
}
