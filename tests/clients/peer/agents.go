package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"time"
)

// pause is how long an agent waits between the answer to a check-in and its next one.
const pause = time.Second

// agents hold check-ins as Elastic Agents do, each on a connection of its own. When stdin ends, each agent waits for
// the answer to its last one. Then it prints how many were answered, how many connections they took, and how often
// each error came.
func agents(arguments []string) error {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	running, end := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		end()
	}()
	var (
		group  sync.WaitGroup
		mutex  sync.Mutex
		result = struct {
			Answered    int            `json:"answered"`
			Connections int            `json:"connections"`
			Errors      map[string]int `json:"errors"`
		}{Errors: map[string]int{}}
	)
	traced := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				mutex.Lock()
				result.Connections++
				mutex.Unlock()
			}
		},
	})
	for range o.connections {
		client, err := o.client()
		if err != nil {
			return err
		}
		client.Timeout = o.hold + time.Minute
		group.Go(func() {
			for running.Err() == nil {
				err := checkIn(traced, client, o)
				mutex.Lock()
				if err != nil {
					result.Errors[err.Error()]++
				} else {
					result.Answered++
				}
				mutex.Unlock()
				select {
				case <-time.After(pause):
				case <-running.Done():
				}
			}
		})
	}
	group.Wait()
	return json.NewEncoder(os.Stdout).Encode(result)
}

func checkIn(ctx context.Context, client *http.Client, o options) error {
	url := fmt.Sprintf("https://%s/api/fleet/checkin?hold=%s", o.name, o.hold)
	body := bytes.NewReader(bytes.Repeat([]byte("a"), 600))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || len(answer) < 600) {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

// hold answers a check-in after the time that it asks for.
func hold(w http.ResponseWriter, r *http.Request) {
	held, err := time.ParseDuration(r.URL.Query().Get("hold"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	select {
	case <-time.After(held):
		answer(w, map[string]any{"ack_token": string(bytes.Repeat([]byte("b"), 600)), "actions": []any{}})
	case <-r.Context().Done():
	}
}
