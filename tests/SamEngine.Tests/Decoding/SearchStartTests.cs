using SamEngine.Decoding;
using Xunit;

namespace SamEngine.Tests.Decoding;

/// <summary>Small facts of decoding that few models would betray.</summary>
public sealed class SearchStartTests
{
    [Theory]
    [InlineData(1, false)]
    [InlineData(1, true)]
    [InlineData(5, false)]
    [InlineData(5, true)]
    public void The_start_id_is_penalised_though_it_was_never_generated(int beams, bool sample)
    {
        var search = TokenSearch.Create(GenerationSettings.Create(new GenerationOptions { NumBeams = beams, DoSample = sample },
            vocabularySize: 100, bosTokenId: 7, eosTokenId: 2));
        for (int row = 0; row < search.SelectionRows; row++)
        {
            Assert.Equal([7], search.PenaltyIds(row).ToArray());
        }
    }

    [Fact]
    public void Defaults_are_the_references()
    {
        var settings = GenerationSettings.Create(new GenerationOptions(), vocabularySize: 100, bosTokenId: 1, eosTokenId: 2);
        Assert.Equal((5, 256, 1, 1.5f, 1f, false), (settings.NumBeams, settings.MaxLength, settings.MinLength,
            settings.RepetitionPenalty, settings.LengthPenalty, settings.DoSample));
        Assert.Equal((1f, 50, 0.9f, 1), (settings.Temperature, settings.TopK, settings.TopP, settings.NumReturnSequences));
        var rank = new RankRequest { Images = [], Prompt = "", Candidates = [] };
        Assert.Equal((RankingMode.Reference, Guidance.Off), (rank.Mode, rank.Guidance));
        Assert.Equal(Guidance.Auto, new DescribeRequest { Images = [], Prompt = "" }.Guidance);
    }

    [Fact]
    public void Candidates_are_ranked_by_sum_or_by_mean()
    {
        float[][] logProbs = [[-1, -1, -1], [-2], [-1.5f, -1.75f]];
        var sum = CandidateRanking.Reference(logProbs, promptRows: 8);
        Assert.Equal([1, 0, 2], sum.Order);
        Assert.Equal([3 / 10d, 2 / 10d, 3.25 / 10d], sum.Losses);
        var mean = CandidateRanking.PerTokenMean(logProbs);
        Assert.Equal([0, 2, 1], mean.Order);
        Assert.Equal([1, 2, 1.625], mean.Losses);
    }
}
