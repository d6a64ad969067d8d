import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** One node of OpenSearch: folder, and ports of HTTP and of the transport. */
public class Receiver extends Node {
    Receiver(Settings settings) {
        super(
            InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "receiver"),
            List.of(Netty4Plugin.class),
            true
        );
    }

    public static void main(String[] args) throws Exception {
        Settings settings = Settings.builder()
            .put("cluster.name", "audit-receiver")
            .put("path.home", args[0])
            .put("network.host", "127.0.0.1")
            .put("http.port", args[1])
            .put("transport.port", args[2])
            .put("discovery.type", "single-node")
            .put("http.type", "netty4")
            .put("transport.type", "netty4")
            .build();
        new Receiver(settings).start();
        Thread.currentThread().join();
    }
}
