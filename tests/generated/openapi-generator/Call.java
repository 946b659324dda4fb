// Calls every operation of the plan through the client that openapi-generator made for Java, by reflection:
// java -cp CLASSES:JARS Call.java PLAN.json

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonSerializer;
import java.io.File;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.ApiResponse;
import org.openapitools.client.JSON;
import org.openapitools.client.api.AdminApi;
import org.openapitools.client.api.EmbeddingsApi;
import org.openapitools.client.api.OpenAiApi;
import org.openapitools.client.api.OperationsApi;
import org.openapitools.client.api.PredictionsApi;
import org.openapitools.client.model.AbstractOpenApiSchema;
import org.openapitools.client.model.EmbedInputs;
import org.openapitools.client.model.IdLists;
import org.openapitools.client.model.Inputs;
import org.openapitools.client.model.OpenAIInput;
import org.openapitools.client.model.PredictInputs;
import org.openapitools.client.model.TextOrIds;

public class Call {
    static final List<Class<?>> APIS =
        List.of(AdminApi.class, EmbeddingsApi.class, OpenAiApi.class, OperationsApi.class, PredictionsApi.class);

    static Method methodOf(String operation) {
        for (Class<?> api : APIS) {
            for (Method method : api.getDeclaredMethods()) {
                if (method.getName().equals(operation + "WithHttpInfo")) {
                    return method;
                }
            }
        }
        throw new IllegalStateException("the client has no " + operation);
    }

    /** Path values and the body in the order of the parameters, which begin with those that are required; null for the rest. */
    static Object[] arguments(Method method, JsonObject one, String heads) {
        Class<?>[] kinds = method.getParameterTypes();
        Object[] values = new Object[kinds.length];
        JsonArray paths = one.getAsJsonArray("paths");
        int next = 0;
        for (int i = 0; i < kinds.length; i++) {
            if (kinds[i] == File.class) {
                values[i] = new File(heads);
            } else if (kinds[i].getPackageName().endsWith(".model")) {
                values[i] = JSON.getGson().fromJson(one.get("body"), kinds[i]);
            } else if (next < paths.size()) {
                String path = paths.get(next++).getAsString();
                values[i] = kinds[i] == Long.class ? (Object) Long.valueOf(path) : path;
            }
        }
        return values;
    }

    static void call(JsonObject plan, JsonObject one) throws Exception {
        String operation = one.get("operation").getAsString();
        boolean admin = one.get("admin").getAsBoolean();
        ApiClient client = new ApiClient();
        client.setBasePath(plan.get(admin ? "admin" : "main").getAsString());
        if (admin) {
            client.addDefaultHeader("Authorization", "Bearer " + plan.get("token").getAsString());
        }
        Method method = methodOf(operation);
        Object api = method.getDeclaringClass().getConstructor(ApiClient.class).newInstance(client);
        // Admin operations have a server of their own in the contract, which would win over the client's.
        api.getClass().getMethod("setCustomBaseUrl", String.class).invoke(api, client.getBasePath());
        int status;
        Object value = null;
        try {
            ApiResponse<?> answer = (ApiResponse<?>) method.invoke(api, arguments(method, one, plan.get("heads").getAsString()));
            status = answer.getStatusCode();
            value = answer.getData();
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof ApiException) || ((ApiException) thrown.getCause()).getCode() == 0) {
                throw new IllegalStateException(operation, thrown.getCause());
            }
            status = ((ApiException) thrown.getCause()).getCode();
        }
        if (status != one.get("status").getAsInt()) {
            throw new IllegalStateException(operation + ": " + status);
        }
        if (status == 200 && one.get("json").getAsBoolean() && value == null) {
            throw new IllegalStateException(operation + ": the answer was not parsed");
        }
    }

    public static void main(String[] given) throws Exception {
        JsonObject plan = JsonParser.parseString(Files.readString(Path.of(given[0]))).getAsJsonObject();
        // What a union holds is written as it is; this client's own adapters ask for an array as a primitive.
        JsonSerializer<AbstractOpenApiSchema> held = (union, type, gson) -> gson.serialize(union.getActualInstance());
        GsonBuilder builder = JSON.getGson().newBuilder();
        for (Class<?> union : List.of(EmbedInputs.class, IdLists.class, Inputs.class, OpenAIInput.class, PredictInputs.class, TextOrIds.class)) {
            builder.registerTypeAdapter(union, held);
        }
        JSON.setGson(builder.create());
        JsonArray cases = plan.getAsJsonArray("cases");
        for (JsonElement one : cases) {
            call(plan, one.getAsJsonObject());
        }
        System.out.println(cases.size() + " called");
        System.exit(0); // okhttp's threads would be waited for
    }
}
