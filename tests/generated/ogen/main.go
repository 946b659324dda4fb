// Calls every operation of the plan through the client that ogen made in the folder api beside this file, by reflection.
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

	"calls/api"

	"github.com/ogen-go/ogen/ogenerrors"
)

type call struct {
	Operation string
	Admin     bool
	Paths     []string
	Body      json.RawMessage
	Bytes     bool
	Status    int
}

type plan struct {
	Main, Admin, Token, Heads string
	Cases                     []call
}

// transport keeps the status of the last answer: the client's own types do not tell it.
type transport struct{ status int }

func (t *transport) Do(request *http.Request) (*http.Response, error) {
	answer, err := http.DefaultClient.Do(request)
	if err == nil {
		t.status = answer.StatusCode
	}
	return answer, err
}

// keys: the admin routes want a token, the others none here.
type keys struct{ token string }

func (k keys) AdminToken(context.Context, api.OperationName) (api.AdminToken, error) {
	return api.AdminToken{Token: k.token}, nil
}

func (k keys) ApiKey(context.Context, api.OperationName) (api.ApiKey, error) {
	return api.ApiKey{}, ogenerrors.ErrSkipClientSecurity
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

// fill sets the path's values, which are the plain fields of a struct of parameters; optional ones are structs.
func fill(parameters reflect.Value, paths []string) {
	for i := 0; i < parameters.NumField() && len(paths) > 0; i++ {
		switch field := parameters.Field(i); field.Kind() {
		case reflect.String:
			field.SetString(paths[0])
			paths = paths[1:]
		case reflect.Int64:
			field.SetInt(must(strconv.ParseInt(paths[0], 10, 64)))
			paths = paths[1:]
		}
	}
}

func argument(kind reflect.Type, c call, heads []byte) reflect.Value {
	value := reflect.New(kind)
	inside := value
	if kind.Kind() == reflect.Pointer {
		inside = reflect.New(kind.Elem())
		value.Elem().Set(inside)
	}
	switch data := inside.Elem(); {
	case strings.HasSuffix(kind.Name(), "Params"):
		fill(data, c.Paths)
	case data.Kind() == reflect.Struct && data.FieldByName("Data").IsValid() && c.Bytes:
		data.FieldByName("Data").Set(reflect.ValueOf(io.Reader(bytes.NewReader(heads))))
	case data.Type().ConvertibleTo(reflect.TypeFor[json.RawMessage]()):
		data.SetBytes(c.Body) // x-ogen-type: the JSON as it is
	default:
		if err := json.Unmarshal(c.Body, inside.Interface()); err != nil {
			fail("%s: the example does not fit the type of the body: %v", c.Operation, err)
		}
	}
	return value.Elem()
}

func main() {
	var p plan
	if err := json.Unmarshal(must(os.ReadFile(os.Args[1])), &p); err != nil {
		fail("%v", err)
	}
	heads := must(os.ReadFile(p.Heads))
	seen := &transport{}
	clients := map[bool]reflect.Value{
		false: reflect.ValueOf(must(api.NewClient(p.Main, keys{}, api.WithClient(seen)))),
		true:  reflect.ValueOf(must(api.NewClient(p.Admin, keys{p.Token}, api.WithClient(seen)))),
	}
	for _, c := range p.Cases {
		name := strings.ToUpper(c.Operation[:1]) + c.Operation[1:]
		function := clients[c.Admin].MethodByName(name)
		if !function.IsValid() {
			fail("the client has no %s", name)
		}
		arguments := []reflect.Value{reflect.ValueOf(context.Background())}
		for i := 1; i < function.Type().NumIn(); i++ {
			arguments = append(arguments, argument(function.Type().In(i), c, heads))
		}
		results := function.Call(arguments)
		if err, bad := results[len(results)-1].Interface().(error); bad {
			fail("%s: %v", c.Operation, err)
		}
		if seen.status != c.Status {
			fail("%s: %d: %v", c.Operation, seen.status, results[0].Interface())
		}
	}
	fmt.Printf("%d called\n", len(p.Cases))
}
