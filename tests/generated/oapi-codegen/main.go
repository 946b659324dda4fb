// Calls every operation of the plan through the client that oapi-codegen made beside this file, by reflection: the
// methods are found by the contract's operationIds, so a route added to the contract is called without a change here.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
)

type call struct {
	Operation string
	Admin     bool
	Paths     []string
	Body      json.RawMessage
	Bytes     bool
	Status    int
	JSON      bool
}

type plan struct {
	Main, Admin, Token, Heads string
	Cases                     []call
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func method(client reflect.Value, c call) reflect.Value {
	name := strings.ToUpper(c.Operation[:1]) + c.Operation[1:]
	for _, suffix := range []string{"WithResponse", "WithBodyWithResponse"} {
		if found := client.MethodByName(name + suffix); found.IsValid() {
			return found
		}
	}
	fail("the client has no %s", name)
	return reflect.Value{}
}

// arguments fills the method's parameters by their types: context, path values, header and query parameters (none), body.
func arguments(kind reflect.Type, c call, heads []byte) []reflect.Value {
	values := []reflect.Value{}
	paths := c.Paths
	for i := 0; i < kind.NumIn()-1; i++ {
		in := kind.In(i)
		switch {
		case in == reflect.TypeFor[context.Context]():
			values = append(values, reflect.ValueOf(context.Background()))
		case in == reflect.TypeFor[io.Reader]():
			values = append(values, reflect.ValueOf(bytes.NewReader(heads)))
		case in.Kind() == reflect.Pointer:
			values = append(values, reflect.New(in.Elem()))
		case len(paths) > 0 && in.Kind() == reflect.String:
			values = append(values, reflect.ValueOf(paths[0]).Convert(in))
			paths = paths[1:]
		case len(paths) > 0 && in.Kind() == reflect.Int64:
			values = append(values, reflect.ValueOf(must(strconv.ParseInt(paths[0], 10, 64))).Convert(in))
			paths = paths[1:]
		case in.Kind() == reflect.String:
			values = append(values, reflect.ValueOf("application/octet-stream"))
		default:
			body := reflect.New(in)
			if err := json.Unmarshal(c.Body, body.Interface()); err != nil {
				fail("%s: the example does not fit the type of the body: %v", c.Operation, err)
			}
			values = append(values, body.Elem())
		}
	}
	return values
}

func main() {
	var p plan
	if err := json.Unmarshal(must(os.ReadFile(os.Args[1])), &p); err != nil {
		fail("%v", err)
	}
	heads := must(os.ReadFile(p.Heads))
	token := WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+p.Token)
		return nil
	})
	clients := map[bool]reflect.Value{
		false: reflect.ValueOf(must(NewClientWithResponses(p.Main))),
		true:  reflect.ValueOf(must(NewClientWithResponses(p.Admin, token))),
	}
	for _, c := range p.Cases {
		function := method(clients[c.Admin], c)
		results := function.Call(arguments(function.Type(), c, heads))
		if err, bad := results[1].Interface().(error); bad {
			fail("%s: %v", c.Operation, err)
		}
		answer := results[0].Elem()
		response := answer.FieldByName("HTTPResponse").Interface().(*http.Response)
		if response.StatusCode != c.Status {
			fail("%s: %d: %.300s", c.Operation, response.StatusCode, answer.FieldByName("Body").Bytes())
		}
		if parsed := answer.FieldByName(fmt.Sprintf("JSON%d", c.Status)); c.JSON && parsed.IsNil() {
			fail("%s: the answer was not parsed", c.Operation)
		}
	}
	fmt.Printf("%d called\n", len(p.Cases))
}
