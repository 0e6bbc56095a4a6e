using System.Reflection;
using System.Xml.Linq;
using SamEngine.Cuda;
using SamEngine.Ilgpu;
using Xunit;

namespace SamEngine.Packaging.Tests;

/// <summary>The documentation that editors show of what an application can call.</summary>
public sealed class DocumentationTests
{
    private static IEnumerable<Assembly> Assemblies => [typeof(SamModel).Assembly, typeof(CudaProvider).Assembly, typeof(IlgpuProvider).Assembly];

    [Fact]
    public void Public_methods_have_their_parameters_and_results_documented()
    {
        var documented = Assemblies.SelectMany(a => XDocument.Load(Path.ChangeExtension(a.Location, ".xml")).Descendants("member"))
            .ToLookup(m => m.Attribute("name")!.Value.Split('(', '~')[0]);
        var missing = new List<string>();
        var methods = Assemblies.SelectMany(a => a.GetExportedTypes()).SelectMany(Callable).ToList();
        foreach (var method in methods)
        {
            string id = $"M:{method.DeclaringType!.FullName!.Replace('+', '.')}.{method.Name.Replace('.', '#')}";
            string[] parameters = [.. method.GetParameters().Select(p => p.Name!)];
            var texts = documented[id].Where(m => m.Element("inheritdoc") is not null
                || parameters.Order().SequenceEqual(m.Elements("param").Select(p => p.Attribute("name")!.Value).Order())).ToList();
            bool returns = method is MethodInfo { ReturnType: var type } && type != typeof(void);
            if (!texts.Any(m => m.Element("inheritdoc") is not null || m.Element("returns") is not null == returns))
            {
                missing.Add($"{id}({string.Join(", ", parameters)}){(returns ? ", returns" : "")}");
            }
        }
        Assert.NotEmpty(methods);
        Assert.Empty(missing);
    }

    [Fact]
    public void What_answers_requests_names_its_errors()
    {
        var methods = XDocument.Load(Path.ChangeExtension(typeof(SamModel).Assembly.Location, ".xml")).Descendants("member")
            .Where(m => m.Attribute("name")!.Value is var n && n.StartsWith("M:SamEngine.SamModel.", StringComparison.Ordinal)
                && (n.Contains(".DescribeAsync", StringComparison.Ordinal) || n.Contains(".DescribeToEndAsync", StringComparison.Ordinal)
                    || n.Contains(".ExplainAsync", StringComparison.Ordinal) || n.Contains(".RankAsync", StringComparison.Ordinal)))
            .ToList();
        Assert.InRange(methods.Count, 5, int.MaxValue);
        // Answering writes no files.
        string[] errors = [.. typeof(SamException).Assembly.GetExportedTypes()
            .Where(t => t.BaseType == typeof(SamException) && t != typeof(OutputException))
            .Append(typeof(OperationCanceledException)).Append(typeof(ObjectDisposedException)).Select(t => "T:" + t.FullName)];
        Assert.All(methods, m => Assert.Superset(errors.ToHashSet(),
            m.Elements("exception").Select(e => e.Attribute("cref")!.Value).ToHashSet()));
    }

    /// <summary>What the source declares: methods, operators and constructors, neither accessors nor what a record gets by itself.</summary>
    private static IEnumerable<MethodBase> Callable(Type type)
    {
        const BindingFlags Declared = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
        if (type.IsEnum || typeof(Delegate).IsAssignableFrom(type))
        {
            return [];
        }
        bool isRecord = type.GetMethod("<Clone>$", Declared) is not null || type.GetMethod("PrintMembers",
            BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.DeclaredOnly) is not null;
        string[] generated = isRecord ? ["Equals", "GetHashCode", "ToString", "Deconstruct", "op_Equality", "op_Inequality", "<Clone>$"] : [];
        return type.GetMethods(Declared).Where(m => !generated.Contains(m.Name)
                && (!m.IsSpecialName || m.Name is "op_Implicit" or "op_Explicit"))
            .Concat<MethodBase>(isRecord ? [] : type.GetConstructors(Declared).Where(c => c.GetParameters().Length > 0));
    }
}
