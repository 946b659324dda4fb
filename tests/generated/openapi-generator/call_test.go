// Calls every operation of the plan ($PLAN) through the client that openapi-generator made for Go, in whose folder this
// file is laid.
package openapi

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

type call struct {
	Operation, Schema string
	Admin             bool
	Paths             []string
	Body              json.RawMessage
	Bytes             bool
	Status            int
}

func clientOf(url, token string) *APIClient {
	configuration := NewConfiguration()
	configuration.Servers = ServerConfigurations{{URL: url}}
	// Admin operations have servers of their own in the contract.
	for name := range configuration.OperationServers {
		configuration.OperationServers[name] = configuration.Servers
	}
	if token != "" {
		configuration.AddDefaultHeader("Authorization", "Bearer "+token)
	}
	return NewAPIClient(configuration)
}

func methodOf(client *APIClient, name string) reflect.Value {
	fields := reflect.ValueOf(client).Elem()
	for i := 0; i < fields.NumField(); i++ {
		if !fields.Type().Field(i).IsExported() {
			continue
		}
		if found := fields.Field(i).MethodByName(name); found.IsValid() {
			return found
		}
	}
	return reflect.Value{}
}

func TestEveryOperation(t *testing.T) {
	data, err := os.ReadFile(os.Getenv("PLAN"))
	if err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Main, Admin, Token, Heads string
		Cases                     []call
	}
	if err := json.Unmarshal(data, &plan); err != nil {
		t.Fatal(err)
	}
	clients := map[bool]*APIClient{false: clientOf(plan.Main, ""), true: clientOf(plan.Admin, plan.Token)}
	for _, c := range plan.Cases {
		method := methodOf(clients[c.Admin], strings.ToUpper(c.Operation[:1])+c.Operation[1:])
		if !method.IsValid() {
			t.Fatalf("the client has no %s", c.Operation)
		}
		arguments := []reflect.Value{reflect.ValueOf(context.Background())}
		for i, path := range c.Paths {
			if method.Type().In(i+1).Kind() == reflect.String {
				arguments = append(arguments, reflect.ValueOf(path))
			} else {
				number, _ := strconv.ParseInt(path, 10, 64)
				arguments = append(arguments, reflect.ValueOf(number))
			}
		}
		request := method.Call(arguments)[0]
		if c.Schema != "" {
			setter := request.MethodByName(c.Schema)
			body := reflect.New(setter.Type().In(0))
			if err := json.Unmarshal(c.Body, body.Interface()); err != nil {
				t.Fatalf("%s: %v", c.Operation, err)
			}
			request = setter.Call([]reflect.Value{body.Elem()})[0]
		} else if c.Bytes {
			file, err := os.Open(plan.Heads)
			if err != nil {
				t.Fatal(err)
			}
			request = request.MethodByName("Body").Call([]reflect.Value{reflect.ValueOf(file)})[0]
		}
		results := request.MethodByName("Execute").Call(nil)
		response := results[len(results)-2].Interface().(*http.Response)
		if response == nil || response.StatusCode != c.Status {
			t.Errorf("%s: %v", c.Operation, results[len(results)-1])
			continue
		}
		if err, bad := results[len(results)-1].Interface().(error); bad && c.Status < 300 {
			t.Errorf("%s: %v", c.Operation, err)
		}
	}
}
